"""Connections kept open between requests.

Idle connections are bounded per host, those in use are not: a copy holds one to
read from while it asks for one to write to, and N such copies would wait for
each other for ever at a bound of N. Their number is bounded by the caller's jobs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from knarr.record import record
from knarr.remote.dial import dial
from knarr.remote.settings import RegistrySettings
from knarr.remote.trust import Trust
from knarr.remote.url import Origin
from knarr.remote.wire import Connection


@record
class Line:
    """What makes two connections interchangeable."""

    origin: Origin
    trust: Trust | None
    dial_timeout_s: float


class Pool:
    """Keep-alive connections by line; may be used from any thread."""

    def __init__(self, settings: RegistrySettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[Line, list[tuple[float, Connection]]] = {}
        self._closed = False

    def take(self, line: Line) -> Connection:
        """An idle connection that still lives, else a new one.

        Raises:
            OSError, RegistryError: as `dial`.
        """
        while True:
            with self._lock:
                waiting = self._idle.get(line)
                since, connection = waiting.pop() if waiting else (0.0, None)
            if connection is None:
                return self.fresh(line)
            if self._clock() - since < self._settings.idle_s and not connection.is_stale():
                return connection
            connection.close()

    def fresh(self, line: Line) -> Connection:
        """A new connection, whatever lies idle."""
        self._closed = False
        return Connection(dial(line.origin, line.trust, self._settings, timeout_s=line.dial_timeout_s))

    def give_back(self, line: Line, connection: Connection) -> None:
        """Keep a connection for the next request, or close it when there are enough."""
        with self._lock:
            idle = self._idle.setdefault(line, [])
            keep = not self._closed and len(idle) < self._settings.idle_per_host
            if keep:
                idle.append((self._clock(), connection))
        if not keep:
            connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back. A later use opens the pool again."""
        with self._lock:
            self._closed = True
            idle = [connection for line in self._idle.values() for _, connection in line]
            self._idle.clear()
        for connection in idle:
            connection.close()
