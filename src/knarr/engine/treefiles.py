"""Single files of a tree, for those who look into a result: read, listed, described.

Every path is resolved inside the tree, and what a caller did not lend is not there.
Errors have the words of BuildKit's, by which frontends know them.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import ExitStack

from knarr import virtual
from knarr.errors import KnarrError, NotFound
from knarr.frontend.gateway import FileStatus
from knarr.ops.copytree import Tree
from knarr.paths import clean, inside, is_below
from knarr.patterns import Matcher

MAX_BYTES = 15 << 20  # of one answer: a message holds 16 MiB


def read(tree: Tree, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """The bytes of a regular file, or `length` of them from `offset`.

    Raises:
        NotFound: there is no such file.
        KnarrError: it is no regular file, cannot be read, or is too large for one answer.
    """
    try:
        # Without O_NONBLOCK a fifo would hold us until somebody writes to it.
        descriptor = os.open(_place(tree, path, "open"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _told("open", path, error) from error
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KnarrError(f"{path} is not a regular file")
        wanted = max(0, status.st_size - offset) if length is None else min(length, status.st_size)
        if wanted > MAX_BYTES:
            raise KnarrError(
                f"{path} has {status.st_size} bytes, too many for one answer",
                hint=f"read it in ranges of at most {MAX_BYTES >> 20} MiB",
            )
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read(wanted)


def entries(tree: Tree, path: str, *, pattern: str = "") -> list[FileStatus]:
    """What is in a directory, sorted by name; only what `pattern` matches, if one is given.

    Raises:
        NotFound: there is no such directory.
        UsageError: the pattern is malformed.
    """
    place = _place(tree, path, "open")
    wanted = Matcher([pattern]) if pattern else None
    try:
        names = sorted(os.listdir(place))
    except OSError as error:
        raise _told("open", path, error) from error
    found = []
    for name in names:
        if (wanted is None or wanted.matches(name)) and _is_lent(tree, clean(f"{path}/{name}")):
            found.append(_status(tree, f"{place}/{name}", name))
    return found


def status(tree: Tree, path: str) -> FileStatus:
    """What a file is; a symlink that is named itself is followed.

    Raises:
        NotFound: there is no such file.
    """
    place = _place(tree, path, "lstat")
    try:
        return _status(tree, place, os.path.basename(clean(path)) or "/")
    except OSError as error:
        raise _told("lstat", path, error) from error


def _place(tree: Tree, path: str, verb: str) -> str:
    if not _is_lent(tree, clean(path)):
        raise _told(verb, path, FileNotFoundError(errno.ENOENT, ""))
    place = inside(tree.root, path)
    if tree.hidden is not None and not _is_lent(tree, place.removeprefix(tree.root) or "/", named=False):
        raise _told(verb, path, FileNotFoundError(errno.ENOENT, ""))
    return place


def _is_lent(tree: Tree, path: str, *, named: bool = True) -> bool:
    """Whether the caller lends `path` (clean): no pattern hides it, and if it was named, it is among those asked for.

    A directory that leads to something lent is there as well.
    """
    if path == "/":
        return True
    if not tree.shows(path) and not (tree.hidden is not None and tree.hidden.may_contain_match(path[1:])):
        return False
    if not tree.only or not named:
        return True
    wanted = [clean(text) for text in tree.only]
    return any(is_below(path, one) or is_below(one, path) for one in wanted) or Matcher(tree.only).matches(path[1:])


def _status(tree: Tree, place: str, name: str) -> FileStatus:
    found = virtual.seen(place, os.lstat(place))
    is_link, is_device = stat.S_ISLNK(found.st_mode), stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)
    return FileStatus(
        name,
        found.st_mode,
        0 if tree.zero_owner else found.st_uid,
        0 if tree.zero_owner else found.st_gid,
        0 if stat.S_ISDIR(found.st_mode) else found.st_size,
        found.st_mtime_ns,
        os.readlink(place) if is_link else "",
        (os.major(found.st_rdev), os.minor(found.st_rdev)) if is_device else (0, 0),
        _xattrs(place),
    )


def _xattrs(place: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(place, follow_symlinks=False)
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}
    except OSError:  # a file system without them
        return {}


def _told(verb: str, path: str, error: OSError) -> KnarrError:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{verb} {path}: no such file or directory")
    return KnarrError(f"{verb} {path}: {os.strerror(error.errno or 0).lower()}")
