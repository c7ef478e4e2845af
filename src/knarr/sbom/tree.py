"""A stranger's tree, read with care: never outside its root, never more than the limits, and no fifo waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import BinaryIO

from knarr.errors import LayerInvalid
from knarr.paths import inside
from knarr.sbom.limits import Limits
from knarr.sbom.package import Skipped

_NOT_SOFTWARE = frozenset(("proc", "sys", "dev"))  # at the top of a running system


class Tree:
    """The directory `root` as the whole world. Paths are relative to it, as text with surrogates for odd bytes.

    `skipped` collects what was passed over. `check` is called often, and may raise to stop.
    """

    def __init__(self, root: str, *, limits: Limits | None = None, check: Callable[[], None] | None = None) -> None:
        self.root = root.rstrip("/") or "/"
        self.limits = limits or Limits()
        self.skipped: list[Skipped] = []
        self._base = "" if self.root == "/" else self.root
        self._check = check or _never
        self._real: dict[str, str] = {}  # of directories
        self._left = self.limits.total

    def skip(self, path: str, reason: str) -> None:
        """Note that `path` was passed over."""
        self.skipped.append(Skipped(path, reason))

    def walk(self) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
        """Every directory with what is in it, sorted by name; parents before children. Links are not followed."""
        todo, count = [""], 0
        while todo:
            self._check()
            here = todo.pop()
            entries = self._listed(here)
            count += len(entries)
            if count > self.limits.files:
                self.skip(here, f"the tree has more than {self.limits.files} files; from here on it was not read")
                return
            yield here, entries
            below = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            if not here:
                below = [name for name in below if name not in _NOT_SOFTWARE]
            todo.extend(reversed([f"{here}/{name}" if here else name for name in below]))

    def _listed(self, here: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self._base}/{here}") as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self.skip(here, _why(error))
            return []

    def real(self, path: str) -> str:
        """Where `path` leads when the links on the way are followed, its last part too; it need not exist."""
        parent, _, name = path.rpartition("/")
        directory = self._real.get(parent)
        if directory is None:
            directory = self._real[parent] = self._inside(parent) if parent else ""
        found = f"{directory}/{name}" if directory else name
        try:
            is_link = stat.S_ISLNK(os.lstat(f"{self._base}/{found}").st_mode)
        except (OSError, ValueError):
            return found
        return self._inside(found) if is_link else found

    def _inside(self, path: str) -> str:
        try:
            return inside(self._base or "/", path).removeprefix(self._base).strip("/")
        except (LayerInvalid, ValueError, OSError):
            return path  # links in a circle: nothing is there

    def is_file(self, path: str) -> bool:
        """Whether a regular file is at `path`, links followed inside of the root."""
        try:
            return stat.S_ISREG(os.lstat(f"{self._base}/{self.real(path)}").st_mode)
        except (OSError, ValueError):
            return False

    def names(self, path: str) -> list[str]:
        """The names in the directory `path`, sorted; none when there is no such directory."""
        try:
            return sorted(os.listdir(f"{self._base}/{self.real(path)}"))
        except (OSError, ValueError):
            return []

    def place(self, path: str) -> str:
        """Where `path` is on this machine, for a library that opens files itself; links were followed inside."""
        return f"{self._base}/{self.real(path)}"

    def open(self, path: str) -> BinaryIO | None:
        """The regular file at `path`; None when there is none, or it cannot be read (that is noted)."""
        self._check()
        try:
            descriptor = os.open(self.place(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            self.skip(path, _why(error))
            return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            return None
        return open(descriptor, "rb")

    def read(self, path: str, limit: int) -> bytes | None:
        """All of the file at `path`; None when it is not there, or has more than `limit` bytes (that is noted)."""
        file = self.open(path)
        if file is None:
            return None
        with file:
            try:
                data = file.read(limit + 1)
            except OSError as error:
                self.skip(path, _why(error))
                return None
        if len(data) > limit:
            self.skip(path, f"larger than {limit >> 20} MiB")
            return None
        return data if self.spend(len(data), path) else None

    def spend(self, size: int, path: str) -> bool:
        """Count bytes that were read or unpacked at `path`; False (which is noted) when they are too many in all."""
        self._left -= size
        if self._left < 0:
            self.skip(path, f"more than {self.limits.total >> 20} MiB of metadata in all; this was not read")
        return self._left >= 0

    def text(self, path: str, limit: int = 0) -> str | None:
        """As `read`, as text: bytes that are no UTF-8 are replaced."""
        data = self.read(path, limit or self.limits.text)
        return None if data is None else data.decode("utf-8", "replace")


def shown(path: str) -> str:
    """`path` as text that JSON can carry: bytes that are no UTF-8 are replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _why(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def _never() -> None:
    return None
