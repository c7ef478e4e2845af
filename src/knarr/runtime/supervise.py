"""Answers for the kernel where a step asks for owners, devices and users that this place does not have.

A seccomp filter sends some system calls of the step here. Owners and devices are noted in
the file (`virtual`), and stat tells what is noted; users are changed in the answers only (`stepusers`).

Nothing is done for a step that the step could not do itself: files are opened with the
rights of this process inside the step's own root, and only an attribute is written.

Spec: seccomp_unotify(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
from collections.abc import Callable

from knarr import virtual
from knarr.runtime.statbuffer import stat_bytes, statx_bytes
from knarr.runtime.stepprocess import AT_FDCWD, Opened, open_file, parent_of, process_of, text, umask, write
from knarr.runtime.stepusers import Users
from knarr.runtime.syscalls import ENDS, USERS, numbers

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_AT_SYMLINK_NOFOLLOW = 0x100


class Refused(Exception):
    """Something the step asked for that cannot be kept; the text names the file."""


class Supervisor:
    """Answers the calls of one step."""

    def __init__(
        self,
        listener: int,
        *,
        uid: int,
        gid: int,
        own: tuple[int, int] = (0, 0),
        own_in_use: bool = False,
        rooted: bool = True,
        first_parent: int = 0,
        ended: Callable[[int], object] | None = None,
    ) -> None:
        """`uid` and `gid` are the step's user, and `own` what this process's ids are called in the step's calls.

        `own_in_use`: the image has users of these numbers as well, so that a call with them may mean either.
        `ended` is told with which status the child of `first_parent` ends.
        `rooted`: paths are those of the step's own root; otherwise somebody has translated them to this process's.
        """
        self._own_in_use = own_in_use
        self._first_parent, self._ended = first_parent, ended
        self._listener = listener
        self._user = (uid, gid)
        self._own = own
        self._rooted = rooted
        arch, table = numbers()
        self._arch = arch
        self._names = {number: name for name, number in table.items()}
        self._users = Users(uid, gid)
        self._has_refused = False

    def serve(self, refuse: Callable[[str], object]) -> None:
        """Answer until the step has ended. `refuse` is told the first thing that cannot be kept."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            if any(event & select.POLLHUP for _, event in poll.poll()):
                return  # nobody is left who could ask
            request = bytearray(80)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, request, True)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return
            id, pid, _, number, arch, _ = struct.unpack_from("=QIIiIQ", request)
            args = struct.unpack_from("=6Q", request, 32)
            value, code, flags = 0, 0, 0
            name = self._names.get(number, "") if arch == self._arch else ""
            is_end = name in ENDS and parent_of(process_of(pid)) == self._first_parent
            try:
                answer = self._answer(name, pid, args) if name and name not in ENDS else None
                if answer is None:
                    flags = _CONTINUE
                else:
                    value = answer
            except Refused as refusal:
                if not self._has_refused:
                    self._has_refused = True
                    refuse(str(refusal))
                code = -errno.EPERM
            except OSError as error:
                code = -(error.errno or errno.EIO)
            try:
                fcntl.ioctl(self._listener, _SEND, struct.pack("=QqiI", id, value, code, flags))
            except OSError as error:
                if error.errno != errno.ENOENT:  # the process was killed meanwhile
                    return
            if is_end and self._ended is not None:
                self._ended(args[0] & 0xFF)

    def _answer(self, name: str, pid: int, args: tuple[int, ...]) -> int | None:
        """The value of the call; None: let the kernel carry it out."""
        if name in USERS:
            return self._users.answer(name, pid, args)
        if name in ("chown", "lchown"):
            return self._chown(pid, AT_FDCWD, args[0], args[1], args[2], follow=name == "chown")
        if name == "fchownat":
            return self._chown(pid, _int(args[0]), args[1], args[2], args[3], _int(args[4]))
        if name == "fchown":
            return self._chown(pid, _int(args[0]), 0, args[1], args[2])
        if name in ("mknod", "mknodat"):
            at, rest = (AT_FDCWD, args) if name == "mknod" else (_int(args[0]), args[1:])
            return self._mknod(pid, at, rest[0], rest[1], rest[2])
        if name in ("chmod", "fchmod", "fchmodat"):
            return self._chmod(name, pid, args)
        return self._stat(name, pid, args)

    # --- files

    def _chown(
        self, pid: int, at: int, path: int, uid: int, gid: int, flags: int = 0, *, follow: bool = True
    ) -> int | None:
        follow = follow and not flags & _AT_SYMLINK_NOFOLLOW
        with self._opened(pid, at, path, follow=follow) as file:
            if file.is_missing:
                return None
            new = (self._named(uid, 0, file.path), self._named(gid, 1, file.path))
            if file.descriptor < 0:  # a symlink, a pipe, a socket: there is no place for a note
                if file.is_kept and any(id > 0 for id in new):
                    raise Refused(f"{file.path}: the owner {new[0]}:{new[1]} of what is no file and no directory")
                return 0
            virtual.chown(file.descriptor, *new)
        return 0

    def _named(self, id: int, which: int, path: str) -> int:
        """An id of the call as the image has it; -1 for no change."""
        id &= 0xFFFFFFFF
        if id == 0xFFFFFFFF:
            return -1
        if id != self._own[which] or not self._own[which]:
            return id
        if self._own_in_use:
            raise Refused(f"{path}: its owner {id} is both the image's and the number of who builds")
        return self._user[which]

    def _mknod(self, pid: int, at: int, path: int, mode: int, device: int) -> int | None:
        if stat.S_IFMT(mode & 0o177777) not in (stat.S_IFCHR, stat.S_IFBLK):
            return None
        named = text(pid, path)
        folder, _, name = named.rstrip("/").rpartition("/")
        folder = folder or ("/" if named.startswith("/") else ".")
        where = open_file(pid, at, folder, os.O_RDONLY | os.O_DIRECTORY, rooted=self._rooted)
        try:
            masked = umask(pid)
            virtual.mknod(f"/proc/self/fd/{where}/{name}", mode & 0o177777 & ~masked, device & 0xFFFFFFFF)
        finally:
            os.close(where)
        return 0

    def _chmod(self, name: str, pid: int, args: tuple[int, ...]) -> int | None:
        at, path, mode = {
            "chmod": (AT_FDCWD, args[0], args[1]),
            "fchmod": (_int(args[0]), 0, args[1]),
            "fchmodat": (_int(args[0]), args[1], args[2]),
        }[name]
        with self._opened(pid, at, path, follow=True) as file:
            if file.descriptor < 0:
                return None  # the kernel's affair, also to say what is wrong
            virtual.chmod(file.descriptor, mode & 0o7777)
        return 0

    def _stat(self, name: str, pid: int, args: tuple[int, ...]) -> int | None:
        """Fill the buffer when something of the file is noted; else the kernel does."""
        at, path, buffer, flags = {
            "stat": (AT_FDCWD, args[0], args[1], 0),
            "lstat": (AT_FDCWD, args[0], args[1], _AT_SYMLINK_NOFOLLOW),
            "fstat": (_int(args[0]), 0, args[1], 0),
            "newfstatat": (_int(args[0]), args[1], args[2], _int(args[3])),
            "statx": (_int(args[0]), args[1], args[4], _int(args[2])),
        }[name]
        with self._opened(pid, at, path, follow=not flags & _AT_SYMLINK_NOFOLLOW) as file:
            if file.descriptor < 0:
                return None
            found = os.fstat(file.descriptor)
            told = virtual.seen(file.descriptor, found)
            if (told.st_uid, told.st_gid, told.st_mode) == (found.st_uid, found.st_gid, found.st_mode):
                return None
        write(pid, statx_bytes(told) if name == "statx" else stat_bytes(told), buffer)
        return 0

    def _opened(self, pid: int, at: int, path: int, *, follow: bool) -> Opened:
        return Opened(pid, at, path, follow=follow, rooted=self._rooted)


def _int(value: int) -> int:
    """A register as a signed int of C."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
