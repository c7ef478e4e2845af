"""A full disk, told in one way wherever it is met: in a system call, in SQLite, in a step that only says it failed."""

from __future__ import annotations

import errno
import os

from knarr.errors import ContentError

ROOM = "free some space: `knarr prune` removes what no build needs, or set KNARR_ROOT to a place on a larger disk"
_NEARLY_FULL_BYTES = 1 << 20


def lacks_room(error: BaseException) -> bool:
    """Whether a system call failed for want of room: bytes, inodes or quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_full(place: str | os.PathLike[str]) -> bool:
    """Whether the disk that holds `place` has next to no room, or no inodes, for this user."""
    disk = os.statvfs(place)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return free * disk.f_frsize < _NEARLY_FULL_BYTES or (disk.f_files > 0 and disk.f_favail == 0)


def no_room(place: str | os.PathLike[str]) -> ContentError:
    """The error for a full disk below the state directory."""
    return ContentError(f"no space left on the disk that holds {os.fspath(place)}", hint=ROOM)


def database_lacks_room(error: Exception, file: str | os.PathLike[str]) -> bool:
    """Whether an error of SQLite about its `file` is for want of room: it often says only "disk I/O error"."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and is_full(os.path.dirname(file)))
