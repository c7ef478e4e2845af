"""What the server has done, in Prometheus' text format.

Spec: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

KIND = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)  # seconds


class Metrics:
    """Counters of one server; belongs to its event loop."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._durations: dict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))
        self._seconds: dict[str, float] = defaultdict(float)
        self._events: dict[str, int] = defaultdict(int)
        self._bytes: dict[str, int] = defaultdict(int)

    def request(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[method, endpoint, status] += 1
        self._seconds[endpoint] += seconds
        counts = self._durations[endpoint]
        for place, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                counts[place] += 1
        counts[-1] += 1

    def event(self, action: str, size: int) -> None:
        """Something was pushed, pulled, mounted or deleted."""
        self._events[action] += 1
        self._bytes[action] += size

    def text(self, gauges: dict[str, float]) -> str:
        """All of it; `gauges` are figures that somebody else knows."""
        lines = list(
            _family(
                "requests_total",
                "counter",
                "requests that were answered",
                (
                    (f'{{method="{method}",endpoint="{endpoint}",status="{status}"}}', count)
                    for (method, endpoint, status), count in sorted(self._requests.items())
                ),
            )
        )
        lines += _family("events_total", "counter", "pushes, pulls, mounts and deletions", _by("action", self._events))
        lines += _family("bytes_total", "counter", "bytes of what was pushed and pulled", _by("action", self._bytes))
        lines += self._histogram()
        for name, value in gauges.items():
            lines += _family(name, "gauge", name.replace("_", " "), [("", value)])
        return "\n".join(lines) + "\n"

    def _histogram(self) -> Iterable[str]:
        name = "knarr_registry_request_seconds"
        yield f"# HELP {name} how long answers took"
        yield f"# TYPE {name} histogram"
        for endpoint, counts in sorted(self._durations.items()):
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
                yield f'{name}_bucket{{endpoint="{endpoint}",le="{bound}"}} {count}'
            yield f'{name}_sum{{endpoint="{endpoint}"}} {self._seconds[endpoint]:.6f}'
            yield f'{name}_count{{endpoint="{endpoint}"}} {counts[-1]}'


def _by(label: str, counts: dict[str, int]) -> Iterable[tuple[str, float]]:
    return ((f'{{{label}="{key}"}}', value) for key, value in sorted(counts.items()))


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[str, float]]) -> Iterable[str]:
    yield f"# HELP knarr_registry_{name} {about}"
    yield f"# TYPE knarr_registry_{name} {kind}"
    for labels, value in samples:
        yield f"knarr_registry_{name}{labels} {value}"
