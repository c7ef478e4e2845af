"""A sink that remembers when the steps of a build ran, for its trace, and passes everything on."""

from __future__ import annotations

import threading
import time

from knarr.progress import Event, Sink, VertexDone, VertexStarted
from knarr.record import replace
from knarr.trace.span import Step


class Recorder:
    """Implements `progress.Sink`. Safe from several threads."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._steps: dict[str, Step] = {}
        self.begun_ns = time.time_ns()

    def send(self, event: Event) -> None:
        if isinstance(event, VertexStarted | VertexDone):
            with self._lock:
                self._note(event)
        self._sink.send(event)

    def _note(self, event: VertexStarted | VertexDone) -> None:
        at = event.at_ns or time.time_ns()
        if isinstance(event, VertexStarted):
            self._steps[event.id] = Step(event.id, event.name, event.inputs, at, 0)
            return
        known = self._steps.get(event.id) or Step(event.id, event.id, (), at, 0)
        error = "cancelled" if event.cancelled else event.error
        self._steps[event.id] = replace(known, ended_ns=at, cached=event.cached, error=error)

    def steps(self) -> tuple[Step, ...]:
        """What was told of so far."""
        with self._lock:
            return tuple(self._steps.values())
