"""A directory that is brought into line with what a client says of its own, entry by entry.

    mirror = Mirror(root)
    for stat in stats:                  # in the order of their paths
        wanted = mirror.enter(stat)     # True: its content is to be sent, in pieces, in any order among files
    mirror.write(path, data); mirror.complete(path)
    mirror.finish()

Entries that were not told of are removed; a file of the same size, time, mode and
owner stays. The client is not trusted: a path that leads out of the root, or comes
out of order, is refused, and nothing is ever reached through a symlink.

Spec: fsutil's validator, receiver and disk writer, as of BuildKit 73ed682.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat as kinds
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import KnarrError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.pb.stat_pb2 import Stat

_MODE_BITS = ((1 << 23, kinds.S_ISUID), (1 << 22, kinds.S_ISGID), (1 << 20, kinds.S_ISVTX))  # of Go's os.FileMode
_DIRECTORY, _SYMLINK, _DEVICE, _PIPE, _SOCKET, _CHARACTERS, _IRREGULAR = (
    1 << bit for bit in (31, 27, 26, 25, 24, 21, 19)
)
_KINDS = _DIRECTORY | _SYMLINK | _DEVICE | _PIPE | _SOCKET | _CHARACTERS | _IRREGULAR
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What a build may keep of them: others are the kernel's or this machine's own.
_XATTRS = ("user.", "security.capability")


class _Open:
    """A directory whose entries are being told: `left` are the names here that were not told of yet."""

    def __init__(self, path: str, left: set[str]) -> None:
        self.path = path
        self.left = left
        self.last = ""


@record
class _Pending:
    """A file whose content is on its way."""

    stat: Stat
    descriptor: int


class Mirror:
    """One pass over the directory `root`. Not for several threads."""

    def __init__(self, root: Path, *, anew: bool = False) -> None:
        """With `anew` no file that is here counts as being the same."""
        self._root = os.fspath(root)
        self._anew = anew
        self._stack = [_Open("", set(os.listdir(self._root)))]
        self._directories: list[Stat] = []
        self._files: set[str] = set()  # that a hard link may point to
        self._wanted: dict[str, Stat] = {}
        self._open: dict[str, _Pending] = {}

    @property
    def waiting(self) -> bool:
        """Whether content of some file is still to come."""
        return bool(self._wanted or self._open)

    def enter(self, stat: Stat) -> bool:
        """Take the next entry; True when the content of the file is wanted.

        Raises:
            KnarrError: it cannot be where it says it is.
        """
        name = self._step_to(stat.path)
        top = self._stack[-1]
        exists = name in top.left
        top.left.discard(name)
        path = f"{self._root}/{stat.path}"
        kind = stat.mode & _KINDS
        if kind == _DIRECTORY:
            self._directory(stat, path, exists=exists)
            return False
        if kind == 0:
            return self._file(stat, path, exists=exists)
        self._other(stat, path, kind, exists=exists)
        return False

    def _step_to(self, path: str) -> str:
        """Leave the directories that the entry is not in, check its place, and give its name."""
        parent, _, name = path.rpartition("/")
        if not name or "\0" in path or name in (".", "..") or path.startswith("/"):
            raise KnarrError(f"the client sent the path {path!r}, which is none")
        while self._stack[-1].path != parent and len(self._stack) > 1:
            self._leave()
        top = self._stack[-1]
        # In order, and each in a directory that was told of: so no path can lead out, or come twice.
        if top.path != parent or not top.last < name:
            raise KnarrError(f"the client sent the path {path!r} out of order, after {f'{top.path}/{top.last}'!r}")
        top.last = name
        return name

    def _leave(self) -> None:
        done = self._stack.pop()
        for name in done.left:
            _remove(f"{self._root}/{done.path}/{name}")

    def _directory(self, stat: Stat, path: str, *, exists: bool) -> None:
        left: set[str] = set()
        if exists and kinds.S_ISDIR(os.lstat(path).st_mode):
            left = set(os.listdir(path))
        else:
            if exists:
                _remove(path)
            os.mkdir(path, 0o700)
        self._stack.append(_Open(stat.path, left))
        self._directories.append(stat)

    def _file(self, stat: Stat, path: str, *, exists: bool) -> bool:
        if stat.linkname:
            self._link(stat, path, exists=exists)
            return False
        self._files.add(stat.path)
        if exists:
            if not self._anew and _is_same(os.lstat(path), stat):
                return False
            _remove(path)
        os.close(os.open(path, _NEW_FILE, 0o600))  # at once: a link to it may come before its content
        self._wanted[stat.path] = stat
        return True

    def _link(self, stat: Stat, path: str, *, exists: bool) -> None:
        if stat.linkname not in self._files:
            raise KnarrError(
                f"the client sent {stat.path!r} as a link to {stat.linkname!r}, which it did not send before"
            )
        target = f"{self._root}/{stat.linkname}"
        if exists:
            if os.path.samestat(os.lstat(path), os.lstat(target)):
                return
            _remove(path)
        os.link(target, path, follow_symlinks=False)

    def _other(self, stat: Stat, path: str, kind: int, *, exists: bool) -> None:
        if exists:
            if kind == _SYMLINK and _is_same_link(path, stat):
                return
            _remove(path)
        if kind == _SYMLINK:
            os.symlink(stat.linkname, path)
        elif kind == _PIPE:
            os.mkfifo(path, 0o600)
        elif kind & _DEVICE:
            form = kinds.S_IFCHR if kind & _CHARACTERS else kinds.S_IFBLK
            os.mknod(path, form | 0o600, os.makedev(stat.devmajor, stat.devminor))
        else:
            return  # a socket means nothing elsewhere
        _dress(path, stat)

    def write(self, path: str, data: bytes) -> None:
        """Add a piece to the content of a file that is wanted.

        Raises:
            KnarrError: it is not.
        """
        pending = self._open.get(path) or self._begin(path)
        view = memoryview(data)
        while view:
            view = view[os.write(pending.descriptor, view) :]

    def _begin(self, path: str) -> _Pending:
        stat = self._wanted.pop(path, None)
        if stat is None:
            raise KnarrError(f"the client sent the content of {path!r}, which was not asked for")
        descriptor = os.open(f"{self._root}/{path}", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        pending = self._open[path] = _Pending(stat, descriptor)
        return pending

    def complete(self, path: str) -> None:
        """The content of `path` has come, all of it."""
        pending = self._open.get(path) or self._begin(path)
        del self._open[path]
        os.close(pending.descriptor)
        _dress(f"{self._root}/{path}", pending.stat)

    def finish(self) -> None:
        """All has come: remove what was not told of, and set modes and times of directories."""
        while self._stack:
            self._leave()
        # Last, and the deepest first: filling a directory needs its write bit and moves its time.
        for stat in reversed(self._directories):
            _dress(f"{self._root}/{stat.path}", stat)

    def close(self) -> None:
        """Let go of what is open, however it ended."""
        for pending in self._open.values():
            os.close(pending.descriptor)
        self._open.clear()


def _permissions(mode: int) -> int:
    return mode & 0o777 | sum(bit for mark, bit in _MODE_BITS if mode & mark)


def _is_same(found: os.stat_result, stat: Stat) -> bool:
    return (
        kinds.S_ISREG(found.st_mode)
        and found.st_size == stat.size
        and found.st_mtime_ns == stat.modTime
        and kinds.S_IMODE(found.st_mode) == _permissions(stat.mode)
        and (os.geteuid() != 0 or (found.st_uid, found.st_gid) == (stat.uid, stat.gid))
        and found.st_nlink == 1  # one that was a link may have been told of as another file
    )


def _is_same_link(path: str, stat: Stat) -> bool:
    found = os.lstat(path)
    if not kinds.S_ISLNK(found.st_mode) or found.st_mtime_ns != stat.modTime:
        return False
    return os.readlink(path) == stat.linkname and (found.st_uid, found.st_gid) == (stat.uid, stat.gid)


def _dress(path: str, stat: Stat) -> None:
    """Owner, mode, extended attributes and time, in the order in which none undoes another."""
    if os.geteuid() == 0:
        os.lchown(path, stat.uid, stat.gid)
    if not stat.mode & _SYMLINK:
        os.chmod(path, _permissions(stat.mode))
    for key, value in stat.xattrs.items():
        if key.startswith(_XATTRS):
            with contextlib.suppress(OSError):  # not every file system has them
                os.setxattr(path, key, value, follow_symlinks=False)
    os.utime(path, ns=(stat.modTime, stat.modTime), follow_symlinks=False)


def _remove(path: str) -> None:
    if kinds.S_ISDIR(os.lstat(path).st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)
