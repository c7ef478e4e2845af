"""What callers type, on its way to a process: a pipe that somebody may not be reading."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Feed:
    """The end of a pipe that is written to. Safe from several threads; what nobody reads any more is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Pass `data` on; blocks while the process does not read."""
        with self._lock, suppress(OSError):  # EPIPE: it has closed its standard input, or ended
            while data and self._descriptor >= 0:
                data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """The process reads the end of its input. May be called twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


@contextmanager
def closed_once(descriptor: int) -> Iterator[Callable[[], object]]:
    """Close `descriptor` when the given function is called, or else at the end of the block."""
    left = [descriptor]

    def close() -> None:
        if left:
            os.close(left.pop())

    try:
        yield close
    finally:
        close()
