"""One flight per key across processes: who comes second waits, and then finds the first one's record.

A flight is a file lock. The kernel lets it go when its holder dies, so that a
killed build keeps nobody waiting and leaves nothing to clean up but an empty file,
which the next flight of that key takes over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from knarr.scope import Scope

_FIRST_WAIT_S = 0.002
_LONGEST_WAIT_S = 0.1


@contextmanager
def flight(directory: Path, key: str, *, scope: Scope, on_wait: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Hold the flight of `key` (a file name) while in the block; the value tells whether it had to wait.

    Who had to wait should look for the result first. `on_wait` is called before the wait.

    Raises:
        Cancelled: the scope was cancelled while waiting.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / key
    descriptor, waited = _take(path, scope, on_wait)
    try:
        yield waited
    finally:
        # Unlinked while it is still locked: who opened it before finds that the name leads elsewhere, and begins anew.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path, scope: Scope, on_wait: Callable[[], None]) -> tuple[int, bool]:
    waited = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            waited = _lock(descriptor, scope, on_wait) or waited
            if _leads_to(path, descriptor):
                return descriptor, waited
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        waited = True


def _lock(descriptor: int, scope: Scope, on_wait: Callable[[], None]) -> bool:
    """Lock, and say whether that took waiting. Asked again and again, since a blocked flock cannot be cancelled."""
    wait_s = _FIRST_WAIT_S
    waited = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return waited
        except BlockingIOError:
            if not waited:
                on_wait()
            waited = True
        scope.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
