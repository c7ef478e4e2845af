"""Prometheus' text format: families of samples, and histograms.

Spec: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

KIND = "text/plain; version=0.0.4; charset=utf-8"


def family(name: str, kind: str, about: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """The lines of one family. Each sample is its labels (`labels(…)`, or "") and its value."""
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labelled, value in samples:
        yield f"{name}{labelled} {value}"


def labels(**values: object) -> str:
    """Labels as they stand behind a name: `{a="b"}`."""
    return "{" + ",".join(f'{key}="{_escaped(str(value))}"' for key, value in values.items()) + "}"


def by(label: str, counts: Mapping[str, float]) -> list[tuple[str, float]]:
    """Samples that differ in one label."""
    return [(labels(**{label: key}), value) for key, value in sorted(counts.items())]


class Histogram:
    """How many observations were at most so much, for each value of one label. Belongs to one thread at a time."""

    def __init__(self, name: str, about: str, label: str, buckets: Sequence[float]) -> None:
        self._name, self._about, self._label = name, about, label
        self._buckets = tuple(buckets)
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0] * (len(self._buckets) + 1))
        self._sums: dict[str, float] = defaultdict(float)

    def observe(self, value: str, amount: float) -> None:
        """Count one observation under the label's `value`."""
        self._sums[value] += amount
        counts = self._counts[value]
        for place, bound in enumerate(self._buckets):
            if amount <= bound:
                counts[place] += 1
        counts[-1] += 1

    def lines(self) -> Iterator[str]:
        yield f"# HELP {self._name} {self._about}"
        yield f"# TYPE {self._name} histogram"
        for value, counts in sorted(self._counts.items()):
            label = {self._label: value}
            for bound, count in zip((*map(str, self._buckets), "+Inf"), counts, strict=True):
                yield f"{self._name}_bucket{labels(**label, le=bound)} {count}"
            yield f"{self._name}_sum{labels(**label)} {self._sums[value]:.6f}"
            yield f"{self._name}_count{labels(**label)} {counts[-1]}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
