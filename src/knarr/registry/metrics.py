"""What the server has done, for Prometheus."""

from __future__ import annotations

from collections import defaultdict

from knarr.exposition import Histogram, by, family, labels

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)  # seconds
_PREFIX = "knarr_registry_"


class Metrics:
    """Counters of one server; belongs to its event loop."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds = Histogram(f"{_PREFIX}request_seconds", "how long answers took", "endpoint", _BUCKETS)
        self._events: dict[str, int] = defaultdict(int)
        self._bytes: dict[str, int] = defaultdict(int)

    def request(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[method, endpoint, status] += 1
        self._seconds.observe(endpoint, seconds)

    def event(self, action: str, size: int) -> None:
        """Something was pushed, pulled, mounted or deleted."""
        self._events[action] += 1
        self._bytes[action] += size

    def text(self, gauges: dict[str, float]) -> str:
        """All of it; `gauges` are figures that somebody else knows."""
        requests = [
            (labels(method=method, endpoint=endpoint, status=status), count)
            for (method, endpoint, status), count in sorted(self._requests.items())
        ]
        lines = [
            *family(f"{_PREFIX}requests_total", "counter", "requests that were answered", requests),
            *family(
                f"{_PREFIX}events_total", "counter", "pushes, pulls, mounts and deletions", by("action", self._events)
            ),
            *family(
                f"{_PREFIX}bytes_total", "counter", "bytes of what was pushed and pulled", by("action", self._bytes)
            ),
            *self._seconds.lines(),
        ]
        for name, value in gauges.items():
            lines += family(f"{_PREFIX}{name}", "gauge", name.replace("_", " "), [("", value)])
        return "\n".join(lines) + "\n"
