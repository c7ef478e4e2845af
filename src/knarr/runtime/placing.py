"""Mounts without mount(2): what a step shall see is put into its tree, and taken out again before the tree is kept.

What the image has at such a place is set aside. A cache is moved in and back, since it
must keep what the step writes; what is only read is copied; devices are made. The step
may put symlinks anywhere, so what is done afterwards is done relative to directories
that were opened before it ran. `recover` gives back what a killed process has moved.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from knarr.errors import RuntimeFailed
from knarr.paths import inside
from knarr.record import record
from knarr.runtime.stubs import Point, Stubs, opened_parent

_LEDGER = "borrowed"
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"))


@record
class Thing:
    """What is put at `target` (a path of the image): `put` makes it at a path where nothing is.

    `borrowed` is the directory that is moved there instead, and back.
    """

    target: str
    is_directory: bool
    put: Callable[[str], object] | None = None
    borrowed: str = ""
    mode: int = 0o755  # of the place, when the image has none


@contextmanager
def placed(root: str, things: Sequence[Thing], bundle: str) -> Iterator[None]:
    """Put `things` into the tree at `root` for the time of the block, in their order. `bundle` is on the same disk.

    Raises:
        RuntimeFailed: something cannot be put there.
    """
    aside = bundle + "/aside"
    os.mkdir(aside, 0o700)
    done: list[_Place] = []
    stubs: list[Stubs] = []
    try:
        try:
            for number, thing in enumerate(things):
                stubs.append(Stubs.make([Point(root, thing.target, thing.is_directory, thing.mode)]))
                done.append(_Place.take(root, thing, f"{aside}/{number}", bundle))
        except OSError as error:
            raise RuntimeFailed(
                f"{things[len(done)].target} of the step cannot be made: {error.strerror}: {error.filename or ''}"
            ) from error
        yield
    finally:
        for place in reversed(done):
            place.give_back()
        for stub in reversed(stubs):
            stub.remove()


class _Place:
    """One thing in its place."""

    def __init__(self, thing: Thing, parent: int, name: str, aside: str, bundle: str) -> None:
        self._thing, self._parent, self._name, self._aside, self._bundle = thing, parent, name, aside, bundle

    @classmethod
    def take(cls, root: str, thing: Thing, aside: str, bundle: str) -> _Place:
        with opened_parent(root, inside(root, thing.target)) as parent:
            place = cls(thing, os.dup(parent.descriptor), parent.name, aside, bundle)
        with place._unseen():
            os.rename(place._name, aside, src_dir_fd=place._parent)
            try:
                if thing.borrowed:
                    _note(bundle, thing.borrowed, inside(root, thing.target))
                    os.rename(thing.borrowed, place._name, dst_dir_fd=place._parent)
                elif thing.put is not None:
                    thing.put(f"/proc/self/fd/{place._parent}/{place._name}")
            except BaseException:
                place._discard()
                os.rename(aside, place._name, dst_dir_fd=place._parent)
                raise
        return place

    def give_back(self) -> None:
        with self._unseen():
            if self._thing.borrowed:
                try:
                    os.rename(self._name, self._thing.borrowed, src_dir_fd=self._parent)
                except FileNotFoundError:  # the step moved or removed it: it is empty from now on
                    os.mkdir(self._thing.borrowed, 0o755)
            self._discard()
            with suppress(FileNotFoundError, NotADirectoryError):
                os.rename(self._aside, self._name, dst_dir_fd=self._parent)
        os.close(self._parent)

    def _discard(self) -> None:
        trash = self._aside + ".trash"
        try:
            os.rename(self._name, trash, src_dir_fd=self._parent)
        except FileNotFoundError:
            return
        remove(trash)

    @contextmanager
    def _unseen(self) -> Iterator[None]:
        """The directory's time stays what it was."""
        info = os.fstat(self._parent)
        try:
            yield
        finally:
            os.utime(self._parent, ns=(info.st_atime_ns, info.st_mtime_ns))


def make_devices(path: str) -> None:
    """A /dev with what every program expects.

    Raises:
        OSError: devices cannot be made, or not be used, on this disk.
    """
    os.mkdir(path, 0o755)
    for name, major, minor in _NODES:
        node = f"{path}/{name}"
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        os.chmod(node, 0o666)
    os.close(os.open(f"{path}/null", os.O_WRONLY | os.O_CLOEXEC))  # not where the disk is mounted nodev
    for name, target in _LINKS:
        os.symlink(target, f"{path}/{name}")
    for name, mode in (("shm", 0o1777), ("pts", 0o755), ("mqueue", 0o1777)):
        os.mkdir(f"{path}/{name}")
        os.chmod(f"{path}/{name}", mode)


def recover(bundle: Path) -> None:
    """Give back what a killed process had borrowed, and remove what it had set aside."""
    with suppress(OSError):
        for line in (bundle / _LEDGER).read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            source, target = json.loads(line)
            if not os.path.lexists(source):
                with suppress(OSError):
                    os.rename(target, source)
    remove(str(bundle / "aside"))


def remove(path: str) -> None:
    """Remove a file or a tree; nothing there is success."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        from shutil import rmtree

        rmtree(path)


def _note(bundle: str, source: str, target: str) -> None:
    with open(f"{bundle}/{_LEDGER}", "a", encoding="utf-8", errors="surrogateescape") as ledger:
        ledger.write(json.dumps([source, target]) + "\n")
        ledger.flush()
