"""Progress as lines that only ever go down, for logs and pipes: the look of BuildKit's plain output.

One step has the floor at a time. Its lines come as they are made; those of other
steps wait until it ends, or until they have waited for `_PATIENCE_NS`. A step
that ends says so at once. `#3 ...` marks where a step is left that still runs.
No line is ever dropped.
"""

from __future__ import annotations

from collections.abc import Iterable

from knarr.cli.progress.figures import seconds, size, stamp
from knarr.cli.progress.steps import Counter, Step, Steps
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned

_PATIENCE_NS = 5_000_000_000
_FIRST_COUNT_NS = 1_000_000_000  # a counter that is done before is told once, when it is done
_NEXT_COUNT_NS = 5_000_000_000
_PARTIAL_NS = 1_000_000_000  # a line without an end is told after this time: it may be a question
_MEASURABLE_NS = 10_000_000  # shorter phases show no time


class _Told:
    """What of one step waits to be printed, and what was."""

    __slots__ = ("counted", "ended", "lines", "number", "partial", "partial_ns", "since_ns")

    def __init__(self) -> None:
        self.number = 0  # in the order of appearance on the screen; 0: not yet there
        self.lines: list[bytes] = []
        self.since_ns = 0  # since when the first of `lines` waits
        self.partial = b""
        self.partial_ns = 0
        self.counted: dict[str, int] = {}  # counter → when it was last told
        self.ended = False


class Plain:
    """A renderer (see `feed.Renderer`)."""

    for_people = True
    interval_s = 0.05
    idle_s = 0.5

    def __init__(self) -> None:
        self.steps = Steps()
        self._told: dict[str, _Told] = {}
        self._floor: Step | None = None
        self._numbers = 0
        self._begun = False
        self._out: list[bytes] = []

    def render(self, events: Iterable[Event], now_ns: int) -> bytes:
        """The bytes to print after `events`, at the time `now_ns`."""
        for event in events:
            self._take(event, now_ns)
        self._look_at_the_clock(now_ns)
        self._print(now_ns)
        return self._taken()

    def close(self, now_ns: int) -> bytes:
        """Everything that still waits."""
        for id, told in self._told.items():
            self._end_partial(told, now_ns)
            if told.lines or told.ended:
                self._block(self.steps.by_id[id])
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    # Events to lines

    def _take(self, event: Event, now_ns: int) -> None:
        step = self.steps.apply(event, now_ns)
        told = self._told.setdefault(step.id, _Told())
        if isinstance(event, Log):
            self._log(step, told, event, now_ns)
        elif isinstance(event, Warned):
            place = f" (line {event.line})" if event.line else ""
            self._add(told, f"WARN: {event.message}{place}", now_ns)
        elif isinstance(event, Status) and event.done:
            told.counted[event.id] = now_ns
            self._add(told, _counter_line(step.counters[event.id], now_ns), now_ns)
            told.ended = told.ended or (step.implied and bool(step.done_ns))
        elif isinstance(event, VertexDone):
            self._end_partial(told, now_ns)
            told.ended = True
        elif isinstance(event, VertexStarted):
            told.ended = False

    def _add(self, told: _Told, line: str | bytes, now_ns: int) -> None:
        if not told.lines:
            told.since_ns = now_ns
        told.lines.append(line if isinstance(line, bytes) else line.encode(errors="replace"))

    def _log(self, step: Step, told: _Told, event: Log, now_ns: int) -> None:
        time = stamp((event.at_ns or now_ns) - step.started_ns).encode() + b" "
        *whole, rest = event.data.split(b"\n")
        for line in whole:
            self._add(told, (told.partial or time) + line, now_ns)
            told.partial = b""
        if rest:
            if not told.partial:
                told.partial, told.partial_ns = time, now_ns
            told.partial += rest

    def _end_partial(self, told: _Told, now_ns: int) -> None:
        if told.partial:
            self._add(told, told.partial, now_ns)
            told.partial = b""

    def _look_at_the_clock(self, now_ns: int) -> None:
        """Tell what has been open for a while: counters, and lines without an end."""
        for step in self.steps.running():
            told = self._told[step.id]
            if told.partial and now_ns - told.partial_ns >= _PARTIAL_NS:
                self._end_partial(told, now_ns)
            for counter in step.counters.values():
                last = told.counted.get(counter.id)
                due = counter.started_ns + _FIRST_COUNT_NS if last is None else last + _NEXT_COUNT_NS
                if not counter.done and now_ns >= due and (last is None or counter.at_ns > last):
                    told.counted[counter.id] = now_ns
                    self._add(told, _counter_line(counter, now_ns), now_ns)

    # Lines to the screen

    def _print(self, now_ns: int) -> None:
        floor = self._floor
        if floor is not None:
            self._block(floor)
        for id, told in self._told.items():
            if told.ended:
                self._block(self.steps.by_id[id])
        waiting = [(told.since_ns, id) for id, told in self._told.items() if told.lines]
        if waiting and (self._floor is None or now_ns - min(waiting)[0] >= _PATIENCE_NS):
            self._block(self.steps.by_id[min(waiting)[1]])
        elif self._floor is None:
            fresh = [step for step in self.steps.running() if not self._told[step.id].number]
            if fresh:
                self._block(fresh[0])

    def _block(self, step: Step) -> None:
        """Give `step` the floor, print what waits of it, and its end if it ended."""
        told = self._told[step.id]
        if not told.number:
            self._numbers += 1
            told.number = self._numbers
        prefix = b"#%d " % told.number
        if self._floor is not step:
            if self._floor is not None:
                self._out.append(b"#%d ...\n" % self._told[self._floor.id].number)
            if self._begun:
                self._out.append(b"\n")
            self._begun = True
            self._out.append(prefix + step.name.encode(errors="replace") + b"\n")
            self._floor = step
        self._out.extend(prefix + line + b"\n" for line in told.lines)
        told.lines.clear()
        if told.ended:
            told.ended = False
            self._out.append(prefix + _ending(step).encode(errors="replace") + b"\n")
            self._floor = None


def _counter_line(counter: Counter, now_ns: int) -> str:
    """`sha256:… 1.04MB / 2.10MB 0.3s done`, parts that say nothing left out."""
    amount = ""
    if counter.total:
        amount = f" {size(counter.current)} / {size(counter.total)}"
    elif counter.current:
        amount = f" {size(counter.current)}"
    took = (counter.at_ns if counter.done else now_ns) - counter.started_ns
    time = f" {seconds(took)}" if took > _MEASURABLE_NS else ""
    return f"{counter.id}{amount}{time}{' done' if counter.done else ''}"


def _ending(step: Step) -> str:
    if step.cancelled:
        return "CANCELED"
    if step.error:
        return f"ERROR: {step.error}"
    if step.cached:
        return "CACHED"
    return f"DONE {seconds(step.done_ns - step.started_ns)}"
