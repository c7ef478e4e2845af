"""Progress as clients of BuildKit's read it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from knarr.buildkit.status import Counts, StatusLog
from knarr.pb.control_pb2 import StatusResponse
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned

STEP = "sha256:" + "a" * 64


@pytest.fixture
def log(tmp_path: Path) -> StatusLog:
    return StatusLog(tmp_path / "status")


def told(log: StatusLog, *events: Event) -> StatusResponse:
    """All that a listener hears of `events`, in one message."""
    for event in events:
        log.send(event)
    log.close()
    joined = StatusResponse()
    for answer in log.follow():
        joined.MergeFrom(answer)
    return joined


def test_a_step_is_told_whole_each_time(log: StatusLog) -> None:
    found = told(
        log,
        VertexStarted(STEP, "RUN make", ("sha256:" + "b" * 64,), at_ns=1_500_000_000),
        VertexDone(STEP, at_ns=2_500_000_001),
    )
    start, end = found.vertexes
    assert start.name == end.name == "RUN make"
    assert list(end.inputs) == ["sha256:" + "b" * 64]
    assert (end.started.seconds, end.started.nanos) == (1, 500_000_000)
    assert not start.HasField("completed")
    assert (end.completed.seconds, end.completed.nanos) == (2, 500_000_001)


def test_every_id_is_a_digest_to_clients(log: StatusLog) -> None:
    found = told(
        log,
        VertexStarted("[internal] load metadata", "[internal] load metadata"),
        Status("[internal] load metadata", "x"),
    )
    assert found.vertexes[0].digest.startswith("sha256:")
    assert len(found.vertexes[0].digest) == 71
    assert found.statuses[0].vertex == found.vertexes[0].digest


def test_a_cancelled_step_has_the_words_by_which_clients_know_it(log: StatusLog) -> None:
    assert told(log, VertexDone(STEP, cancelled=True)).vertexes[0].error == "context canceled"


def test_a_status_that_ended_says_when(log: StatusLog) -> None:
    going, ended = told(
        log, Status(STEP, "layer", 5, 10, started_ns=1, at_ns=2), Status(STEP, "layer", 10, 10, True, 1, 3)
    ).statuses
    assert (going.current, going.total) == (5, 10)
    assert not going.HasField("completed")
    assert ended.completed.nanos == 3


def test_a_warning_brings_its_place(log: StatusLog) -> None:
    (found,) = told(log, Warned(STEP, "JSONArgsRecommended: …", "why", "https://example", "Dockerfile", 3)).warnings
    assert found.short.decode() == "JSONArgsRecommended: …"
    assert found.detail[0] == b"why"
    assert found.info.filename == "Dockerfile"
    assert found.ranges[0].start.line == 3


def test_every_byte_of_a_large_log_arrives_however_late_one_listens(log: StatusLog) -> None:
    pieces = [bytes([65 + i % 26]) * 100_000 for i in range(100)] + [b"x" * 3_000_000]
    heard = bytearray()

    def listen() -> None:
        for answer in log.follow():
            assert answer.ByteSize() < 4 << 20
            for line in answer.logs:
                heard.extend(line.msg)

    listener = threading.Thread(target=listen)
    listener.start()
    found = told(log, *(Log(STEP, 1, piece) for piece in pieces))
    listener.join()
    assert bytes(heard) == b"".join(pieces) == b"".join(line.msg for line in found.logs)


def test_it_counts_what_was_told(log: StatusLog) -> None:
    told(
        log,
        VertexStarted("a", "a"),
        VertexStarted("b", "b"),
        VertexDone("b", cached=True),
        Warned("b", "careful"),
    )
    assert log.counts() == Counts(total=2, completed=1, cached=1, warnings=1)


def test_what_is_told_after_the_end_is_not_heard(log: StatusLog) -> None:
    told(log, VertexStarted("a", "a"))
    log.send(VertexDone("a"))
    assert sum(len(answer.vertexes) for answer in log.follow()) == 1


def test_a_listener_that_leaves_stops_at_once(log: StatusLog) -> None:
    assert list(log.follow(until=lambda: True)) == []
