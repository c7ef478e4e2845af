"""A build's progress as BuildKit's status messages: kept in a file, given to each who listens, from the beginning on.

    log = StatusLog(path)
    engine.solve(request, session, log)     # the log is the build's sink
    log.close()
    for response in log.follow(): ...       # on other threads, any number, at any time

Nothing is lost and nothing is held in memory: a listener that is slow is behind in
the file. The file is what the history keeps (application/vnd.buildkit.status.v0:
messages, each after its length as four bytes, the lowest first).

Spec: BuildKit's client/status.go and solver/llbsolver/history.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from knarr.pb.control_pb2 import StatusResponse, Vertex
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned
from knarr.record import record
from knarr.scope import TICK_S

MEDIA_TYPE = "application/vnd.buildkit.status.v0"
_LENGTH = struct.Struct("<I")
_MAX_ANSWER_BYTES = 1 << 20  # several messages are one answer up to here
_MAX_SOURCE_BYTES = 256 << 10  # of the text that a warning is about
_MAX_LOG_BYTES = 512 << 10  # of one message


@record
class Counts:
    """How far a build came."""

    total: int
    completed: int
    cached: int
    warnings: int


class StatusLog:
    """Implements `progress.Sink`. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        """`path` is made, or replaced."""
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._changed = threading.Condition()
        self._size = 0
        self._ended = False
        self._vertices: dict[str, Vertex] = {}
        self._warnings = 0

    def send(self, event: Event) -> None:
        with self._changed:
            if self._ended:
                return  # what a step still says after its build was given up
            for message in self._messages(event):
                data = message.SerializeToString()
                self._append(_LENGTH.pack(len(data)) + data)
            self._changed.notify_all()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(data)

    def _messages(self, event: Event) -> Iterator[StatusResponse]:
        if isinstance(event, Log):
            for start in range(0, len(event.data), _MAX_LOG_BYTES):
                piece = event.data[start : start + _MAX_LOG_BYTES]
                yield _log(event, piece)
        elif isinstance(event, VertexStarted):
            vertex = self._vertices.setdefault(event.id, Vertex(digest=digest_of(event.id), name=event.name))
            vertex.inputs[:] = [digest_of(input) for input in event.inputs]
            vertex.started.CopyFrom(_time(event.at_ns))
            vertex.ClearField("completed")
            yield StatusResponse(vertexes=[vertex])
        elif isinstance(event, VertexDone):
            vertex = self._vertices.setdefault(event.id, Vertex(digest=digest_of(event.id), name=event.id))
            vertex.cached = event.cached
            vertex.error = "context canceled" if event.cancelled else event.error
            vertex.completed.CopyFrom(_time(event.at_ns))
            yield StatusResponse(vertexes=[vertex])
        elif isinstance(event, Status):
            yield _status(event)
        else:
            self._warnings += 1
            yield _warning(event)

    def vertices(self) -> list[Vertex]:
        """All steps that were told of, as they are; theirs who do not change them."""
        with self._changed:
            return list(self._vertices.values())

    def counts(self) -> Counts:
        """What has been told so far."""
        vertices = self.vertices()
        with self._changed:
            return Counts(
                len(vertices),
                sum(vertex.HasField("completed") for vertex in vertices),
                sum(vertex.cached for vertex in vertices),
                self._warnings,
            )

    def close(self) -> None:
        """Nothing more comes: who listens gets what there is, and then the end."""
        with self._changed:
            if not self._ended:
                self._ended = True
                os.close(self._descriptor)
            self._changed.notify_all()

    def remove(self) -> None:
        """Delete the file; who is listening still hears the end."""
        self.path.unlink(missing_ok=True)

    def follow(self, *, until: Callable[[], bool] = lambda: False) -> Iterator[StatusResponse]:
        """All that was and will be told, several messages joined in one; ends with the build, or as `until` says."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            at = 0
            while not until():
                with self._changed:
                    if at == self._size:
                        if self._ended:
                            return
                        self._changed.wait(TICK_S)
                    size = self._size
                if at < size:
                    answer, at = _joined(descriptor, at, size)
                    yield answer
        finally:
            os.close(descriptor)


def read(path: Path) -> Iterator[StatusResponse]:
    """All that the log of a build that has ended tells."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        at = 0
        while at < size:
            answer, at = _joined(descriptor, at, size)
            yield answer
    finally:
        os.close(descriptor)


def _joined(descriptor: int, at: int, size: int) -> tuple[StatusResponse, int]:
    """As many messages from `at` on as make one answer, and where the next one begins."""
    data = os.pread(descriptor, min(size - at, 2 * _MAX_ANSWER_BYTES), at)
    joined = bytearray()
    place = 0
    while place < len(data) and len(joined) < _MAX_ANSWER_BYTES:
        (length,) = _LENGTH.unpack_from(data, place)
        end = place + _LENGTH.size + length
        if end > len(data):
            break
        # Messages one after the other are one message with the lists of all of them: protobuf's rule.
        joined += data[place + _LENGTH.size : end]
        place = end
        if place + _LENGTH.size > len(data):
            break
    return StatusResponse.FromString(bytes(joined)), at + place


def digest_of(vertex: str) -> str:
    """A vertex's id as clients want it: a digest."""
    return vertex if vertex.startswith("sha256:") else f"sha256:{hashlib.sha256(vertex.encode()).hexdigest()}"


def _time(ns: int) -> Timestamp:
    return Timestamp(seconds=ns // 10**9, nanos=ns % 10**9)


def _log(event: Log, piece: bytes) -> StatusResponse:
    message = StatusResponse()
    message.logs.add(vertex=digest_of(event.vertex), timestamp=_time(event.at_ns), stream=event.stream, msg=piece)
    return message


def _status(event: Status) -> StatusResponse:
    message = StatusResponse()
    found = message.statuses.add(
        ID=event.id,
        name="transferring" if event.id.startswith("transferring ") else "",
        vertex=digest_of(event.vertex),
        current=event.current,
        total=event.total,
        timestamp=_time(event.at_ns),
    )
    if event.started_ns:
        found.started.CopyFrom(_time(event.started_ns))
    if event.done:
        found.completed.CopyFrom(_time(event.at_ns))
    return message


def _warning(event: Warned) -> StatusResponse:
    message = StatusResponse()
    found = message.warnings.add(
        vertex=digest_of(event.vertex), level=event.level, short=event.message.encode(), url=event.url
    )
    if event.detail:
        found.detail.extend(line.encode() for line in event.detail.split("\n"))
    if event.file:
        found.info.filename = event.file
        found.info.language = "Dockerfile"
        if len(event.source) <= _MAX_SOURCE_BYTES:
            found.info.data = event.source
    if event.line:
        found.ranges.add().start.line = event.line
        found.ranges[0].end.line = event.last_line or event.line
    return message
