"""Who made what in a step whose files all have one owner, that of this process.

Before a step of another user than root, every file that has no note gets one: root's. What
has none afterwards was made by the step, and is its user's.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from knarr import virtual
from knarr.errors import Unsupported
from knarr.runtime.users import User


def before(root: str) -> set[str]:
    """Note root's ownership in the whole tree; gives the entries that can have no note."""
    unnoted = set()
    for path, mode in _walk(root):
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            virtual.mark(path, 0, 0)
        else:
            unnoted.add(path)
    return unnoted


def after(root: str, user: User, unnoted: set[str]) -> None:
    """Give the user what has no note.

    Raises:
        Unsupported: the step made something that can have no note.
    """
    for path, mode in _walk(root):
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            virtual.mark(path, user.uid, user.gid)
        elif path not in unnoted:
            raise cannot_keep(f"{path[len(root) :]}: the owner {user.uid}:{user.gid} of a symlink, pipe or socket")


def unlock(root: str) -> None:
    """Let this process read and change what a step has locked its owner out of; its mode is noted."""
    for path, mode in _walk(root):
        wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
        if (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and mode & wanted != wanted:
            virtual.chmod(path, stat.S_IMODE(mode))


def cannot_keep(what: str) -> Unsupported:
    """The refusal of something that this profile has no place for."""
    return Unsupported(
        f"{what} cannot be kept in this privilege profile",
        hint="build with ids in /etc/subuid and /etc/subgid, or as root: docs/reference/profiles.md",
    )


def _walk(root: str) -> Iterator[tuple[str, int]]:
    """Every entry below `root` and `root` itself, a directory before what is in it; (path, mode)."""
    yield root, os.lstat(root).st_mode
    todo = [root]
    while todo:
        here = todo.pop()
        with os.scandir(here) as entries:
            found = [(entry.path, entry.stat(follow_symlinks=False).st_mode) for entry in entries]
        for path, mode in found:
            yield path, mode
            if stat.S_ISDIR(mode):
                todo.append(path)
