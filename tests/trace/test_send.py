"""Spans on their way to a collector."""

from __future__ import annotations

import pytest

from knarr.trace.otlp import message, read
from knarr.trace.send import Sender
from knarr.trace.settings import GRPC, HTTP, OtlpSettings, from_environment
from knarr.trace.span import ERROR, Place, Span, Step, place, spans

from .collector import over_grpc, over_http

STEPS = (Step("a", "[1/2] FROM busybox", (), 10, 20, cached=True), Step("b", "[2/2] RUN x", ("a",), 20, 0, error="no"))


def made(at: Place) -> list[Span]:
    return list(spans(at, "build", 5, 30, STEPS, attributes={"n": 1}, resource={"service.name": "knarr"}, error="no"))


def test_a_callers_header_says_where_spans_belong() -> None:
    assert place("00-" + "a" * 32 + "-" + "b" * 16 + "-01") == Place("a" * 32, "b" * 16)
    for nonsense in ("", "00-x", "00-" + "0" * 32 + "-" + "b" * 16 + "-01"):
        assert place(nonsense).parent == ""
        assert len(place(nonsense).trace) == 32


def test_steps_are_below_the_build_and_one_that_never_ended_ends_with_it() -> None:
    root, first, second = made(Place("a" * 32, "b" * 16))
    assert (root.parent, first.parent, second.parent) == ("b" * 16, root.id, root.id)
    assert (second.started_ns, second.ended_ns, second.status, second.message) == (20, 30, ERROR, "no")
    assert second.attributes["inputs"] == ("a",)


def test_what_is_written_is_read_again() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    before = made(Place("a" * 32))
    assert list(read(ExportTraceServiceRequest.FromString(message(before)))) == before


@pytest.mark.parametrize("protocol", [GRPC, HTTP])
def test_a_collector_gets_them_with_the_headers_it_wants(protocol: str) -> None:
    told: list[str] = []
    with (over_grpc if protocol == GRPC else over_http)() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
        }
        settings = from_environment(environ)
        assert settings is not None
        assert Sender(settings, told.append).send(message(made(Place("a" * 32))))
        assert [span.name for span in collector.spans] == ["build", "[1/2] FROM busybox", "[2/2] RUN x"]
        assert {key.lower(): value for key, value in collector.headers[0].items()}["x-key"] == "secret"
    assert told == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.0.0.1:1/v1/traces"])
def test_one_that_is_not_there_is_told_once_and_fails_nothing(url: str) -> None:
    told: list[str] = []
    sender = Sender(OtlpSettings(url, HTTP if url.endswith("traces") else GRPC, timeout_s=2), told.append)
    assert [sender.send(b""), sender.send(b"")] == [False, False]
    assert len(told) == 1
    assert told[0].startswith(f"traces are lost: {url}: ")
