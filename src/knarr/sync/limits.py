"""How much happens at once at each registry, over all images that are under way.

A blob that is copied is read at one host and written at another; it takes a turn at
both before it begins, always in the same order, so that no two copies wait for each
other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from knarr.image.closure import Turn

USUAL = 8  # transfers at a time per host; more were not faster between two registries on one machine


class HostLimits:
    """Turns by host. May be used from any thread."""

    def __init__(self, limits: Mapping[str, int], usual: int = USUAL) -> None:
        self._limits, self._usual = limits, usual
        self._lock = threading.Lock()
        self._turns: dict[str, threading.BoundedSemaphore] = {}

    def turn(self, *hosts: str) -> Turn:
        """What has to be held while `hosts` are asked or sent something; places without a host need no turn."""
        return partial(self._held, tuple(sorted({host for host in hosts if host})))

    @contextmanager
    def _held(self, hosts: tuple[str, ...]) -> Iterator[None]:
        with ExitStack() as stack:
            for host in hosts:
                stack.enter_context(self._of(host))
            yield

    def _of(self, host: str) -> AbstractContextManager[object]:
        with self._lock:
            if host not in self._turns:
                self._turns[host] = threading.BoundedSemaphore(self._limits.get(host, 0) or self._usual)
            return self._turns[host]
