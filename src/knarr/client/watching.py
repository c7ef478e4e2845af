"""A builder's progress, as events of ours; and what is remembered of it for the message when the build fails.

Spec: BuildKit's client/status.go.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import time_ns
from typing import TYPE_CHECKING

from knarr.progress import Event, Log, Sink, Status, VertexDone, VertexStarted, Warned

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from knarr.pb.control_pb2 import StatusResponse, Vertex, VertexStatus, VertexWarning

_LAST_BYTES = 4096  # of a step's output, for the message
_LAST_LINES = 20
_CANCELLED = "context canceled"


class Watcher:
    """Takes status messages, and passes them on to a sink."""

    def __init__(self, sink: Sink, *, prefix: str = "") -> None:
        """`prefix` goes before the names of steps: several builders may work on one build."""
        self._sink = sink
        self._prefix = prefix
        self._lock = threading.Lock()
        self._told: dict[str, tuple[int, int]] = {}  # when each vertex was last said to have started and ended
        self._names: dict[str, str] = {}
        self._said: dict[str, bytes] = {}
        self._failed = ""
        self._shift_ns: int | None = None  # from the builder's clock to ours
        self._warnings: set[tuple[str, bytes, int]] = set()

    def take(self, response: StatusResponse) -> None:
        """Pass on what is new in one message."""
        for vertex in response.vertexes:
            for event in self._vertex(vertex):
                self._sink.send(event)
        for status in response.statuses:
            self._sink.send(self._status(status))
        for log in response.logs:
            with self._lock:
                self._said[log.vertex] = (self._said.get(log.vertex, b"") + log.msg)[-_LAST_BYTES:]
            self._sink.send(Log(log.vertex, int(log.stream), log.msg, self._ns(log.timestamp)))
        for warning in response.warnings:
            line = warning.ranges[0].start.line if warning.ranges else 0
            if (key := (warning.vertex, warning.short, line)) not in self._warnings:
                self._warnings.add(key)
                self._sink.send(_warned(warning))

    def _vertex(self, vertex: Vertex) -> Iterator[Event]:
        started, completed = self._ns(vertex.started), self._ns(vertex.completed)
        before = self._told.get(vertex.digest, (0, 0))
        self._told[vertex.digest] = (started or before[0], completed)
        self._names[vertex.digest] = vertex.name
        if started and started != before[0]:
            yield VertexStarted(vertex.digest, self._prefix + vertex.name, tuple(vertex.inputs), started)
        if completed and completed != before[1]:
            cancelled = vertex.error.endswith(_CANCELLED)
            with self._lock:
                if vertex.error and not cancelled:
                    self._failed = vertex.digest
                else:
                    self._said.pop(vertex.digest, None)
            yield VertexDone(vertex.digest, vertex.cached, "" if cancelled else vertex.error, cancelled, completed)

    def failed_step(self) -> tuple[str, tuple[str, ...]]:
        """The step that failed last and the last lines that it wrote; "" when none did."""
        with self._lock:
            said = self._said.get(self._failed, b"").decode(errors="replace").rstrip("\n")
            return self._names.get(self._failed, ""), tuple(said.split("\n")[-_LAST_LINES:]) if said else ()

    def _status(self, status: VertexStatus) -> Status:
        return Status(
            status.vertex,
            status.ID,
            status.current,
            status.total,
            status.HasField("completed"),
            self._ns(status.started),
            self._ns(status.timestamp),
        )

    def _ns(self, time: Timestamp) -> int:
        """A time of the builder's by our clock, so that what runs seems to run since then; 0: none is told."""
        told = int(time.seconds) * 10**9 + int(time.nanos)
        if told <= 0:
            return 0
        if self._shift_ns is None:
            self._shift_ns = time_ns() - told
        return told + self._shift_ns


def _warned(warning: VertexWarning) -> Warned:
    line = int(warning.ranges[0].start.line) if warning.ranges else 0
    message = warning.short.decode(errors="replace").removesuffix(f" (line {line})")  # the place is told apart
    detail = b"\n".join(warning.detail).decode(errors="replace")
    return Warned(
        warning.vertex, message, detail, warning.url, warning.info.filename, line, source=bytes(warning.info.data)
    )
