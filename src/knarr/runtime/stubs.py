"""Mount points that the image does not have: made before a step, taken away after it.

A mount needs a file or a directory to sit on. What is made for that must not
become part of the layer, at any level. Taking it away leaves the time of its
parent as the step left it. Making it does move that time, as with BuildKit; a
layer shows it only where the step changed something in that directory.

The step may have put a symlink anywhere on the way: everything is done relative
to a directory that was opened part by part, following nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from knarr.paths import inside
from knarr.record import record

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@record
class Point:
    """Where something will be mounted: `target` inside the tree at `root`, as a directory or a file."""

    root: str
    target: str
    is_directory: bool
    mode: int = 0o755  # of a directory


class Stubs:
    """What was made for some mount points. `remove` takes it away again."""

    def __init__(self) -> None:
        self._made: list[tuple[str, str]] = []  # (root, real path)

    @classmethod
    def make(cls, points: Iterable[Point]) -> Stubs:
        """Make what is missing for `points`, in their order.

        Raises:
            OSError: the tree is read-only, or the way leads through a file; nothing made stays.
        """
        stubs = cls()
        try:
            for point in points:
                stubs._make_one(point)
        except BaseException:
            stubs.remove()
            raise
        return stubs

    def _make_one(self, point: Point) -> None:
        missing: list[str] = []
        path = inside(point.root, point.target)
        while path != point.root and not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for stub in reversed(missing):
            with opened_parent(point.root, stub) as parent:
                if stub is not missing[0]:
                    os.mkdir(parent.name, 0o755, dir_fd=parent.descriptor)
                elif point.is_directory:
                    os.mkdir(parent.name, dir_fd=parent.descriptor)
                    os.chmod(parent.name, point.mode, dir_fd=parent.descriptor)  # mkdir drops the sticky bit
                else:
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                    os.close(os.open(parent.name, flags, 0o644, dir_fd=parent.descriptor))
            self._made.append((point.root, stub))

    def remove(self) -> None:
        """Remove what is still as it was made: an empty directory, an empty file. Never raises."""
        while self._made:
            try:
                with opened_parent(*self._made.pop()) as parent:
                    info = os.fstat(parent.descriptor)
                    _remove_empty(parent.name, parent.descriptor)
                    os.utime(parent.descriptor, ns=(info.st_atime_ns, info.st_mtime_ns))
            except OSError:
                continue  # the step filled, moved or removed it: then it is the step's


def _remove_empty(name: str, directory: int) -> None:
    info = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        os.rmdir(name, dir_fd=directory)
    elif stat.S_ISREG(info.st_mode) and not info.st_size:
        os.unlink(name, dir_fd=directory)


@contextmanager
def opened_parent(root: str, path: str) -> Iterator[_Parent]:
    """The directory that holds `path`, open while the block lasts."""
    *way, name = path[len(root) :].strip("/").split("/")
    descriptor = os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        for part in way:
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield _Parent(name, descriptor)
    finally:
        os.close(descriptor)


@record
class _Parent:
    name: str  # of what is in it
    descriptor: int
