"""What the daemon has done and what it takes, for Prometheus."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from knarr.exposition import Histogram, by, family

if TYPE_CHECKING:
    from knarr.buildkit.status import Counts

_BUCKETS = (0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0)  # seconds
_OUTCOMES = ("built", "failed", "cancelled")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Metrics:
    """Counters of one daemon. Safe from several threads."""

    def __init__(self, running: Callable[[], int], sessions: Callable[[], int]) -> None:
        """`running` and `sessions` tell how many builds and clients there are."""
        self._running, self._sessions = running, sessions
        self._lock = threading.Lock()
        self._builds: dict[str, int] = dict.fromkeys(_OUTCOMES, 0)
        self._steps: dict[str, int] = defaultdict(int)
        self._seconds = Histogram("knarr_build_seconds", "how long builds took", "outcome", _BUCKETS)

    def build(self, outcome: str, seconds: float, counts: Counts) -> None:
        """A build has ended: `built`, `failed` or `cancelled`."""
        with self._lock:
            self._builds[outcome] += 1
            self._seconds.observe(outcome, seconds)
            self._steps["cached"] += counts.cached
            self._steps["run"] += counts.completed - counts.cached

    def text(self) -> str:
        """All of it."""
        with self._lock:
            lines = [
                *family("knarr_builds_total", "counter", "builds that have ended", by("outcome", self._builds)),
                *family("knarr_steps_total", "counter", "steps of builds that have ended", by("how", self._steps)),
                *self._seconds.lines(),
            ]
        lines += family("knarr_builds_running", "gauge", "builds under way", [("", self._running())])
        lines += family("knarr_sessions", "gauge", "clients that are connected", [("", self._sessions())])
        return "\n".join([*lines, *_process()]) + "\n"


def _process() -> Iterator[str]:
    """The process's own figures, named as Prometheus' client libraries do."""
    with open("/proc/self/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    figures = (
        ("process_cpu_seconds_total", "counter", "CPU time of the daemon itself, without its steps", cpu),
        ("process_resident_memory_bytes", "gauge", "memory of the daemon itself", int(fields[21]) * _PAGE_BYTES),
        ("process_threads", "gauge", "threads", int(fields[17])),
        ("process_open_fds", "gauge", "open files", len(os.listdir("/proc/self/fd"))),
    )
    for name, kind, about, value in figures:
        yield from family(name, kind, about, [("", value)])
