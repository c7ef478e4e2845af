"""An export as progress shows it: one vertex, and the phases inside it."""

from __future__ import annotations

import time
from types import TracebackType

from knarr.errors import Cancelled
from knarr.image.copy import MOVING, Watch
from knarr.progress import Sink, Status, VertexDone, VertexStarted, Warned
from knarr.spec.descriptor import Descriptor


class Vertex:
    """Tells `sink` of one export while its `with` block lasts. Phases may be told from any thread."""

    def __init__(self, sink: Sink, name: str, id: str = "") -> None:
        self._sink = sink
        self._name = name
        self._id = id or name

    def __enter__(self) -> Vertex:
        self._sink.send(VertexStarted(self._id, self._name, at_ns=time.time_ns()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        cancelled = isinstance(error, (Cancelled, KeyboardInterrupt))
        text = "" if error is None or cancelled else str(error)
        self._sink.send(VertexDone(self._id, error=text, cancelled=cancelled, at_ns=time.time_ns()))

    def phase(self, name: str) -> Phase:
        """A phase of the export, for a `with` block."""
        return Phase(self, name)

    def warn(self, text: str) -> None:
        """Something the user should know of, though the export goes on."""
        self._sink.send(Warned(self._id, text))

    def tell(self, name: str, current: int, total: int, started_ns: int, *, done: bool) -> None:
        """Where a phase is now."""
        self._sink.send(Status(self._id, name, current, total, done, started_ns, time.time_ns()))

    def watch(self, prefix: str) -> Watch:
        """Tells how far each blob of a copy is, from when it begins to move until it has: `PREFIX sha256:…`."""
        started: dict[str, int] = {}

        def watch(descriptor: Descriptor, done: int, how: str) -> None:
            name = f"{prefix} {descriptor.digest}"
            if how == MOVING:
                self.tell(name, done, descriptor.size, started.setdefault(name, time.time_ns()), done=False)
                return
            since = started.pop(name, None)
            if since is not None:  # else it was there already, or its end was told
                self.tell(name, done, descriptor.size, since, done=True)

        return watch


class Phase:
    """Something without a number that begins and ends."""

    def __init__(self, vertex: Vertex, name: str) -> None:
        self._vertex, self._name = vertex, name
        self._since = 0

    def __enter__(self) -> Phase:
        self._since = time.time_ns()
        self._vertex.tell(self._name, 0, 0, self._since, done=False)
        return self

    def __exit__(self, *failure: object) -> None:
        # A phase that failed also ends: the vertex tells the failure.
        self._vertex.tell(self._name, 0, 0, self._since, done=True)
