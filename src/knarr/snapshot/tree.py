"""A tree on disk as the drivers handle it: removed, measured, cloned.

A clone keeps everything a layer can hold: hard links within the tree, owners,
modes, times, extended attributes, devices and holes. File data is shared with
the source where the file system can (FICLONE: btrfs, xfs, bcachefs), otherwise
copied inside the kernel.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

from knarr.snapshot.snapshotter import Usage

_FICLONE = 0x40049409
_STRIDE = 64 << 20  # bytes per copy_file_range: big, yet a cancelled build need not wait long
_LONG = 3500  # bytes of a path, which may have 4096
_NO_XATTR = frozenset((errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL))


def remove(path: str) -> None:
    """Delete a file or a tree, whatever its modes and depth. Symlinks are not followed.

    Nothing there is success, also half-way: another process may be removing the same.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    directories = [path]
    for here in directories:  # grows while it is walked: parents before children
        with suppress(FileNotFoundError), _scan(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(_within_reach(entry.path, path))
                    continue
                try:
                    os.unlink(entry.path)
                except FileNotFoundError:
                    continue
    for here in reversed(directories):
        with suppress(FileNotFoundError):
            os.rmdir(here)


def _scan(directory: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    try:
        return os.scandir(directory)
    except PermissionError:  # overlay leaves directories of mode 0 in its work directory
        os.chmod(directory, 0o700)
        return os.scandir(directory)


def _within_reach(directory: str, top: str) -> str:
    """A tree can be deeper than a path may be long: then it is cut, and the lower part hung below `top`."""
    if len(directory) < _LONG:
        return directory
    moved = f"{top}/deep-{os.urandom(6).hex()}"
    os.rename(directory, moved)
    return moved


def usage(path: str) -> Usage:
    """The blocks and inodes a tree takes; a file with several names counts once."""
    size = inodes = 0
    seen: set[int] = set()
    todo = [path]
    while todo:
        here = todo.pop()
        info = os.lstat(here)
        size, inodes = size + info.st_blocks * 512, inodes + 1
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                    continue
                info = entry.stat(follow_symlinks=False)
                if info.st_nlink > 1:
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                size, inodes = size + info.st_blocks * 512, inodes + 1
    return Usage(size, inodes)


def clone(source: str, target: str, *, check: Callable[[], None] | None = None) -> None:
    """Copy the tree at the directory `source` into the existing, empty directory `target`.

    `check` is called per entry and may raise to stop; `target` is then half made.
    """
    links: dict[int, str] = {}
    directories: list[tuple[str, str]] = [(source, target)]
    # Attributes of directories go last, deepest first: making a child moves its
    # parent's time, and a read-only mode would stop a non-root copy.
    for here, there in directories:
        with os.scandir(here) as entries:
            for entry in entries:
                if check is not None:
                    check()
                goal = os.path.join(there, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    os.mkdir(goal, 0o700)
                    directories.append((entry.path, goal))
                else:
                    _clone_entry(entry, goal, links)
    for here, there in reversed(directories):
        copy_attributes(here, there, os.lstat(here))


def _clone_entry(entry: os.DirEntry[str], goal: str, links: dict[int, str]) -> None:
    info = entry.stat(follow_symlinks=False)
    if info.st_nlink > 1:
        first = links.setdefault(info.st_ino, goal)
        if first is not goal:
            os.link(first, goal, follow_symlinks=False)
            return
    kind = stat.S_IFMT(info.st_mode)
    if kind == stat.S_IFREG:
        _clone_data(entry.path, goal, info.st_size)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(entry.path), goal)
    else:
        os.mknod(goal, info.st_mode, info.st_rdev)
    copy_attributes(entry.path, goal, info)


def _clone_data(source: str, goal: str, size: int) -> None:
    import fcntl

    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not size:
                return
            try:
                fcntl.ioctl(writing, _FICLONE, reading)
            except OSError:
                _copy_data(reading, writing, size)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_data(reading: int, writing: int, size: int) -> None:
    """Copy the parts that hold data; holes stay holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole remains
                break
            raise
        at = os.lseek(reading, start, os.SEEK_HOLE)
        _copy_range(reading, writing, start, at)
    os.ftruncate(writing, size)


def _copy_range(reading: int, writing: int, start: int, end: int) -> None:
    while start < end:
        count = min(end - start, _STRIDE)
        try:
            done = os.copy_file_range(reading, writing, count, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            done = os.pwrite(writing, os.pread(reading, min(count, 1 << 20), start), start)
        if not done:
            return  # the file shrank under us
        start += done


def copy_attributes(source: str, goal: str, info: os.stat_result) -> None:
    """Give `goal` the owner, mode, extended attributes and times of `source` (whose lstat is `info`)."""
    os.chown(goal, info.st_uid, info.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(info.st_mode):
        os.chmod(goal, stat.S_IMODE(info.st_mode))  # after chown, which clears setuid
    copy_xattrs(source, goal)  # after chown, which clears security.capability
    os.utime(goal, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def copy_xattrs(source: str, goal: str) -> None:
    """Copy the extended attributes a layer may hold; overlay's own are about its directories, not the tree."""
    try:
        names = os.listxattr(source, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTR:
            return
        raise
    for name in names:
        if name.startswith(("trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.")):
            continue
        value = os.getxattr(source, name, follow_symlinks=False)
        try:
            os.setxattr(goal, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_XATTR:
                raise
