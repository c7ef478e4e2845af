"""Owners, modes and devices that this process may not really make: noted beside the file, and read back.

In a user namespace nobody may make a device; with one id nobody may give a file
away; without any right a directory must stay writable for its owner. What cannot
be is then noted in the extended attribute `NOTE` of the file, and whoever packs,
compares or copies files looks at them through `seen`. A device is an empty regular
file with a note. The note follows the file: renames, hard links and overlay's
copies keep it.

Nothing of this is active in the root profile: there an owner is an owner.

    virtual.begin(owners=True)
    virtual.chown(path, 1000, 1000)
    virtual.seen(path, os.lstat(path)).st_uid  # 1000
"""

from __future__ import annotations

import errno
import os
import stat

NOTE = "user.knarr.stat"  # "uid gid mode device": decimal, decimal, octal with the kind of file, decimal
_NODES = frozenset((stat.S_IFCHR, stat.S_IFBLK))
_NO_NOTE = frozenset((errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.ENOENT, errno.ELOOP))

_devices = _owners = _modes = False


def begin(*, owners: bool = False, modes: bool = False) -> None:
    """From now on note devices, and also `owners` or `modes`, instead of making them. For the whole process."""
    global _devices, _owners, _modes
    _devices, _owners, _modes = True, owners, modes


def end() -> None:
    """Make everything really again; for tests."""
    global _devices, _owners, _modes
    _devices = _owners = _modes = False


def notes_owners() -> bool:
    """Whether owners are noted instead of given."""
    return _owners


def notes_modes() -> bool:
    """Whether modes that lock the owner out are noted."""
    return _modes


def seen(path: str | int, status: os.stat_result) -> os.stat_result:
    """`status`, which is the lstat of `path`, as it would be if everything could be made."""
    if not _devices:
        return status
    mode = status.st_mode
    if not _owners and (status.st_size or not stat.S_ISREG(mode)):
        return status
    note = _read(path) if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None
    if note is None:
        return _replaced(status, 0, 0, mode, status.st_rdev) if _owners else status
    uid, gid, kept, device = note
    if stat.S_IFMT(kept) in _NODES:
        return _replaced(status, uid, gid, kept, device)
    if not _owners:
        return status
    same = _modes and _widened(kept) == stat.S_IMODE(mode)
    return _replaced(status, uid, gid, (kept if same else mode), 0)


def chown(file: str | int | os.PathLike[str], uid: int, gid: int, *, follow_symlinks: bool = False) -> None:
    """chown(2), or a note. -1 leaves a number as it is.

    Raises:
        OSError: it is not allowed, or what the file is has no place for a note (symlinks, pipes).
    """
    if not _owners:
        os.chown(file, uid, gid, follow_symlinks=follow_symlinks or isinstance(file, int))
        return
    status = os.stat(file) if isinstance(file, int) else os.lstat(file)
    note = _read(file)
    old = note or (0, 0, stat.S_IFMT(status.st_mode), 0)
    new = (old[0] if uid < 0 else uid, old[1] if gid < 0 else gid)
    mode = status.st_mode
    if not stat.S_ISDIR(mode) and mode & 0o6000 and new != old[:2]:
        os.chmod(file, stat.S_IMODE(mode) & ~0o6000)  # as the kernel does
    if note is None and new == (0, 0):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EPERM, f"the owner {new[0]}:{new[1]} of a symlink, pipe or socket cannot be kept", file)
    _write(file, (*new, old[2], old[3]))


def mark(path: str, uid: int, gid: int) -> bool:
    """Note an owner for a file or directory that has no note, whatever it is called; False when it has one."""
    if _read(path) is not None:
        return False
    _write(path, (uid, gid, os.lstat(path).st_mode, 0))
    return True


def chmod(file: str | int | os.PathLike[str], mode: int) -> None:
    """chmod(2) that leaves this process in command of the file."""
    if not _devices:
        os.chmod(file, mode)
        return
    status = os.stat(file) if isinstance(file, int) else os.lstat(file)
    note = _read(file) if _modes or not status.st_size else None
    if note is not None and stat.S_IFMT(note[2]) in _NODES:
        _write(file, (note[0], note[1], stat.S_IFMT(note[2]) | mode, note[3]))
        return
    if not _modes:
        os.chmod(file, mode)
        return
    full = stat.S_IFMT(status.st_mode) | mode
    os.chmod(file, _widened(full))
    if _widened(full) != mode:
        old = note or (0, 0, 0, 0)
        _write(file, (old[0], old[1], full, 0))


def mknod(path: str, mode: int, device: int = 0) -> None:
    """mknod(2), or for a device an empty file with a note."""
    # 0/0 is overlay's whiteout, which anybody may make.
    if not _devices or stat.S_IFMT(mode) not in _NODES or not device:
        os.mknod(path, mode, device)
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _write(path, (0, 0, mode, device))


def _widened(mode: int) -> int:
    """The permissions with which the owner can still work: read and write, and enter."""
    return stat.S_IMODE(mode) | (0o700 if stat.S_ISDIR(mode) else 0o600)


def _read(file: str | int | os.PathLike[str]) -> tuple[int, int, int, int] | None:
    try:
        text = os.getxattr(file, NOTE, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno in _NO_NOTE:
            return None
        raise
    try:
        uid, gid, mode, device = text.decode("ascii").split(" ")
        return int(uid), int(gid), int(mode, 8), int(device)
    except ValueError:
        return None  # somebody else's: it says nothing


def _write(file: str | int | os.PathLike[str], note: tuple[int, int, int, int]) -> None:
    uid, gid, mode, device = note
    os.setxattr(file, NOTE, f"{uid} {gid} {mode:o} {device}".encode(), follow_symlinks=isinstance(file, int))


def _replaced(status: os.stat_result, uid: int, gid: int, mode: int, device: int) -> os.stat_result:
    further = {
        name: getattr(status, name)
        for name in ("st_atime", "st_mtime", "st_ctime", "st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blocks")
    }
    first = (mode, status.st_ino, status.st_dev, status.st_nlink, uid, gid, *status[6:10])
    return os.stat_result(first, {**further, "st_rdev": device, "st_blksize": status.st_blksize})
