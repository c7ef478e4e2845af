"""One read for many writes: blobs of a source on this machine's disk, each fetched once, when it is first wanted.

with Spool(repository, directory) as spool:
    for target in targets:
        copy_closure(closure, spool, target, …)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from knarr.content.target import Fetcher
from knarr.scope import Flights
from knarr.spec.descriptor import Descriptor
from knarr.streams import Readable, copy


class Spool:
    """A `Fetcher` over another; what was opened once is read from `directory`. May be used from any thread."""

    def __init__(self, source: Fetcher, directory: Path) -> None:
        """`directory` is there, and nobody else's."""
        self._source, self._directory = source, directory
        self._flights = Flights()
        self._there: set[str] = set()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for name in self._there:
            with suppress(FileNotFoundError):
                os.unlink(self._directory / name)

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        """The content, verified when it came in."""
        name = descriptor.digest.replace(":", "-")
        if name not in self._there:
            self._flights.once(name, lambda: self._fetch(descriptor, name))
        with open(self._directory / name, "rb") as file:
            yield file

    def _fetch(self, descriptor: Descriptor, name: str) -> None:
        if name in self._there:
            return
        partial = self._directory / f"{name}.part"
        with self._source.open(descriptor) as stream, open(partial, "wb", buffering=0) as file:
            copy(stream, file)
        os.rename(partial, self._directory / name)
        self._there.add(name)
