"""Answers for the kernel where a step asks for owners, devices and users that this place does not have.

A seccomp filter sends some system calls of the step here. Owners and devices are noted in
the file (`virtual`), and stat tells what is noted. With `fakes_users`, users are changed in
the answers only: a process that becomes another user is told that it is.

Nothing is done for a step that the step could not do itself: files are opened with the
rights of this process inside the step's own root, and only an attribute is written.

Spec: seccomp_unotify(2); struct stat of x86-64 and of the other 64-bit architectures.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
from collections.abc import Callable

from knarr import linux, virtual

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV and _SEND
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_PATH_MAX = 4096

OWNERS = ("chown", "lchown", "fchown", "fchownat", "mknod", "mknodat")
STATS = ("stat", "lstat", "fstat", "newfstatat", "statx")
ENDS = ("exit_group",)  # how the first process ends, which somebody between it and us does not tell
MODES = ("chmod", "fchmod", "fchmodat")
_ASKED = ("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid")
_CHANGED = ("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups")
USERS = (*_ASKED, *_CHANGED)

_NUMBERS = {
    "x86_64": (
        0xC000003E,
        {
            "stat": 4,
            "fstat": 5,
            "lstat": 6,
            "chmod": 90,
            "fchmod": 91,
            "chown": 92,
            "fchown": 93,
            "lchown": 94,
            "getuid": 102,
            "getgid": 104,
            "setuid": 105,
            "setgid": 106,
            "geteuid": 107,
            "getegid": 108,
            "setreuid": 113,
            "setregid": 114,
            "setgroups": 116,
            "setresuid": 117,
            "getresuid": 118,
            "setresgid": 119,
            "getresgid": 120,
            "setfsuid": 122,
            "setfsgid": 123,
            "mknod": 133,
            "mknodat": 259,
            "fchownat": 260,
            "newfstatat": 262,
            "fchmodat": 268,
            "exit_group": 231,
            "statx": 332,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mknodat": 33,
            "fchmod": 52,
            "fchmodat": 53,
            "fchownat": 54,
            "fchown": 55,
            "newfstatat": 79,
            "fstat": 80,
            "setregid": 143,
            "setgid": 144,
            "setreuid": 145,
            "setuid": 146,
            "setresuid": 147,
            "getresuid": 148,
            "setresgid": 149,
            "getresgid": 150,
            "setfsuid": 151,
            "setfsgid": 152,
            "setgroups": 159,
            "getuid": 174,
            "geteuid": 175,
            "getgid": 176,
            "getegid": 177,
            "statx": 291,
            "exit_group": 94,
        },
    ),
}


def numbers() -> tuple[int, dict[str, int]]:
    """The audit number of this machine's architecture and those of its calls; empty for one we do not know."""
    return _NUMBERS.get(os.uname().machine, (0, {}))


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
        self._ids: dict[int, tuple[int, int]] = {}
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
            is_end = name in ENDS and _parent_of(_process_of(pid)) == self._first_parent
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
        if name in _ASKED or name in _CHANGED:
            return self._ask_user(name, pid, args)
        if name in ("chown", "lchown"):
            return self._chown(pid, _AT_FDCWD, args[0], args[1], args[2], follow=name == "chown")
        if name == "fchownat":
            return self._chown(pid, _int(args[0]), args[1], args[2], args[3], _int(args[4]))
        if name == "fchown":
            return self._chown(pid, _int(args[0]), 0, args[1], args[2])
        if name in ("mknod", "mknodat"):
            at, rest = (_AT_FDCWD, args) if name == "mknod" else (_int(args[0]), args[1:])
            return self._mknod(pid, at, rest[0], rest[1], rest[2])
        if name in ("chmod", "fchmod", "fchmodat"):
            return self._chmod(name, pid, args)
        return self._stat(name, pid, args)

    # --- files

    def _chown(
        self, pid: int, at: int, path: int, uid: int, gid: int, flags: int = 0, *, follow: bool = True
    ) -> int | None:
        follow = follow and not flags & _AT_SYMLINK_NOFOLLOW
        with _Opened(self, pid, at, path, follow=follow) as file:
            if file.is_missing:
                return None
            new = (self._named(uid, 0, file.path), self._named(gid, 1, file.path))
            if file.descriptor < 0:  # a symlink, a pipe, a socket: there is no place for a note
                if any(id > 0 for id in new):
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
        text = self.text(pid, path)
        folder, _, name = text.rstrip("/").rpartition("/")
        where = self.open(pid, at, folder or ("/" if text.startswith("/") else "."), os.O_RDONLY | os.O_DIRECTORY)
        try:
            umask = _umask(pid)
            virtual.mknod(f"/proc/self/fd/{where}/{name}", mode & 0o177777 & ~umask, device & 0xFFFFFFFF)
        finally:
            os.close(where)
        return 0

    def _chmod(self, name: str, pid: int, args: tuple[int, ...]) -> int | None:
        at, path, mode = {
            "chmod": (_AT_FDCWD, args[0], args[1]),
            "fchmod": (_int(args[0]), 0, args[1]),
            "fchmodat": (_int(args[0]), args[1], args[2]),
        }[name]
        with _Opened(self, pid, at, path, follow=True) as file:
            if file.descriptor < 0:
                return None  # the kernel's affair, also to say what is wrong
            virtual.chmod(file.descriptor, mode & 0o7777)
        return 0

    def _stat(self, name: str, pid: int, args: tuple[int, ...]) -> int | None:
        """Fill the buffer when something of the file is noted; else the kernel does."""
        at, path, buffer, flags = {
            "stat": (_AT_FDCWD, args[0], args[1], 0),
            "lstat": (_AT_FDCWD, args[0], args[1], _AT_SYMLINK_NOFOLLOW),
            "fstat": (_int(args[0]), 0, args[1], 0),
            "newfstatat": (_int(args[0]), args[1], args[2], _int(args[3])),
            "statx": (_int(args[0]), args[1], args[4], _int(args[2])),
        }[name]
        with _Opened(self, pid, at, path, follow=not flags & _AT_SYMLINK_NOFOLLOW) as file:
            if file.descriptor < 0:
                return None
            found = os.fstat(file.descriptor)
            told = virtual.seen(file.descriptor, found)
            if (told.st_uid, told.st_gid, told.st_mode) == (found.st_uid, found.st_gid, found.st_mode):
                return None
        data = _statx(told) if name == "statx" else _struct_stat(told)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            memory.seek(buffer)
            memory.write(data)
        return 0

    # --- users

    def _ask_user(self, name: str, pid: int, args: tuple[int, ...]) -> int:
        process = _process_of(pid)
        which = 0 if "uid" in name else 1
        if name == "setgroups":
            return 0
        if name in _CHANGED:
            wanted = next((id & 0xFFFFFFFF for id in args[:2][::-1] if id & 0xFFFFFFFF != 0xFFFFFFFF), None)
            if name in ("setuid", "setgid", "setfsuid", "setfsgid"):
                wanted = args[0] & 0xFFFFFFFF
            ids = list(self._of(process))
            if wanted is not None and not name.startswith("setfs"):
                ids[which] = wanted
            self._ids[process] = (ids[0], ids[1])
            return 0
        id = self._of(process)[which]
        if name.startswith("getres"):
            with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
                for pointer in args[:3]:
                    memory.seek(pointer)
                    memory.write(struct.pack("=I", id))
            return 0
        return id

    def _of(self, process: int) -> tuple[int, int]:
        """The ids a process believes to have: its own, or those of who started it."""
        here: int | None = process
        for _ in range(64):
            if here is None or here <= 1:
                break
            if here in self._ids:
                return self._ids[here]
            here = _parent_of(here)
        return self._user

    # --- the step's memory and files

    def text(self, pid: int, address: int) -> str:
        """The path at `address` of the process."""
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            first = memory.read(_PATH_MAX - address % _PATH_MAX)
            if b"\0" not in first:
                first += memory.read(_PATH_MAX)
        return os.fsdecode(first.partition(b"\0")[0][:_PATH_MAX])

    def open(self, pid: int, at: int, path: str, flags: int) -> int:
        """Open a file as the process would, inside its own root."""
        if not path.startswith("/"):
            base = os.readlink(f"/proc/{pid}/cwd" if at == _AT_FDCWD else f"/proc/{pid}/fd/{at}")
            path = f"{base}/{path}"
        if not self._rooted:
            return os.open(path, flags | os.O_CLOEXEC)
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return linux.open_in_root(root, path, flags)
        finally:
            os.close(root)


class _Opened:
    """A file of the step, open for reading; `descriptor` is -1 for what is neither file nor directory."""

    def __init__(self, supervisor: Supervisor, pid: int, at: int, path: int, *, follow: bool) -> None:
        self.path = supervisor.text(pid, path) if path else ""
        self.descriptor = -1
        self.is_missing = False
        nofollow = 0 if follow else os.O_NOFOLLOW
        try:
            if self.path:
                probe = supervisor.open(pid, at, self.path, os.O_PATH | nofollow)
            else:
                probe = os.open(f"/proc/{pid}/fd/{at}", os.O_PATH | os.O_CLOEXEC)
                self.path = f"descriptor {at}"
        except OSError:
            self.is_missing = True
            return
        try:
            mode = os.fstat(probe).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                self.descriptor = _open_for_notes(f"/proc/self/fd/{probe}", mode)
        finally:
            os.close(probe)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _open_for_notes(path: str, mode: int) -> int:
    """Open a file or directory, also one whose mode locks its owner out; that mode is noted then."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
    if virtual.notes_modes() and mode & wanted != wanted:
        os.chmod(path, stat.S_IMODE(mode) | wanted)
        descriptor = os.open(path, flags)
        virtual.chmod(descriptor, stat.S_IMODE(mode))
        return descriptor
    return os.open(path, flags)


def _int(value: int) -> int:
    """A register as a signed int of C."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _status(pid: int, key: str) -> str:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as table:
        return next((line.split()[1] for line in table if line.startswith(key + ":")), "0")


def _process_of(thread: int) -> int:
    try:
        return int(_status(thread, "Tgid"))
    except OSError:
        return thread


def _parent_of(pid: int) -> int | None:
    try:
        return int(_status(pid, "PPid"))
    except OSError:
        return None


def _umask(pid: int) -> int:
    return int(_status(pid, "Umask"), 8)


def _struct_stat(found: os.stat_result) -> bytes:
    times = [part for ns in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns) for part in divmod(ns, 10**9)]
    if os.uname().machine == "x86_64":
        head = (found.st_dev, found.st_ino, found.st_nlink, found.st_mode, found.st_uid, found.st_gid, found.st_rdev)
        return struct.pack(
            "=QQQIIIxxxxQqqq6q3q", *head, found.st_size, found.st_blksize, found.st_blocks, *times, 0, 0, 0
        )
    head = (found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev)
    return struct.pack("=QQIIIIQQqiiq6qII", *head, 0, found.st_size, found.st_blksize, 0, found.st_blocks, *times, 0, 0)


def _statx(found: os.stat_result) -> bytes:
    def time(ns: int) -> bytes:
        return struct.pack("=qIi", *divmod(ns, 10**9), 0)

    head = struct.pack(
        *("=IIQIIIHxxQQQQ", 0x7FF, found.st_blksize, 0, found.st_nlink, found.st_uid, found.st_gid, found.st_mode),
        *(found.st_ino, found.st_size, found.st_blocks, 0),
    )
    times = time(found.st_atime_ns) + bytes(16) + time(found.st_ctime_ns) + time(found.st_mtime_ns)
    devices = struct.pack(
        *("=IIII", os.major(found.st_rdev), os.minor(found.st_rdev), os.major(found.st_dev), os.minor(found.st_dev)),
    )
    return (head + times + devices).ljust(256, b"\0")
