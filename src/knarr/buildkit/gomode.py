"""The mode of a file as Go's os.FileMode, in which BuildKit's messages have it."""

from __future__ import annotations

import stat

_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """A st_mode as Go has it."""
    special = sum(theirs for ours, theirs in _SPECIAL if mode & ours)
    return mode & 0o777 | special | _TYPES.get(stat.S_IFMT(mode), 0)
