"""What is known about each step of a build, gathered from its events. No clock, no output."""

from __future__ import annotations

from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned


class Counter:
    """Something counted inside a step: bytes of a layer, or a phase without a number (`total` 0)."""

    __slots__ = ("at_ns", "current", "done", "id", "started_ns", "total")

    def __init__(self, id: str, started_ns: int) -> None:
        self.id, self.started_ns = id, started_ns
        self.current = self.total = self.at_ns = 0
        self.done = False


class Step:
    """One step. `done_ns` 0: it runs. `implied`: it was never announced, and is known from its counters only."""

    __slots__ = ("cached", "cancelled", "counters", "done_ns", "error", "id", "implied", "name", "started_ns")

    def __init__(self, id: str, name: str, started_ns: int, *, implied: bool = False) -> None:
        self.id, self.name, self.started_ns, self.implied = id, name, started_ns, implied
        self.done_ns = 0
        self.cached = self.cancelled = False
        self.error = ""
        self.counters: dict[str, Counter] = {}

    @property
    def running(self) -> bool:
        return not self.done_ns

    @property
    def internal(self) -> bool:
        """Whether it is not one of the user's: loading the Dockerfile, pulling, exporting."""
        return not self.name.startswith("[") or self.name.startswith("[internal]")


class Steps:
    """All steps so far, in the order in which they began, and the warnings."""

    def __init__(self) -> None:
        self.by_id: dict[str, Step] = {}
        self.warnings: list[Warned] = []

    def apply(self, event: Event, now_ns: int) -> Step:
        """Take in `event`; events without a time happen at `now_ns`. Returns the step it is about."""
        at = event.at_ns or now_ns
        if isinstance(event, VertexStarted):
            return self._started(event, at)
        if isinstance(event, VertexDone):
            step = self._known(event.id, at)
            step.done_ns, step.cached = at, event.cached
            step.error, step.cancelled = event.error, event.cancelled
            return step
        step = self._known(event.vertex, at)
        if isinstance(event, Status):
            self._counted(step, event, at)
        elif isinstance(event, Warned):
            self.warnings.append(event)
        elif isinstance(event, Log) and step.implied:
            step.done_ns = 0
        return step

    def _started(self, event: VertexStarted, at: int) -> Step:
        step = self.by_id.get(event.id)
        if step is None:
            step = self.by_id[event.id] = Step(event.id, event.name, at)
        elif step.done_ns and not step.implied:  # it ran before, and runs again
            step.started_ns, step.done_ns, step.cached, step.error = at, 0, False, ""
        step.name, step.implied = event.name, False
        return step

    def _known(self, id: str, at: int) -> Step:
        step = self.by_id.get(id)
        if step is None:
            step = self.by_id[id] = Step(id, id, at, implied=True)
        return step

    def _counted(self, step: Step, event: Status, at: int) -> None:
        counter = step.counters.get(event.id)
        if counter is None:
            counter = step.counters[event.id] = Counter(event.id, event.started_ns or at)
        counter.current, counter.total = event.current, event.total or counter.total
        counter.at_ns, counter.done = at, event.done
        if step.implied:  # it ends with its counters
            step.done_ns = at if all(c.done for c in step.counters.values()) else 0

    def running(self) -> list[Step]:
        """The steps that have not ended."""
        return [step for step in self.by_id.values() if step.running]
