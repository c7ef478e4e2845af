"""Steps that trace themselves: they find a socket of the daemon's, and their spans become part of the build's trace."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from knarr.buildkit.content import CONTENT
from knarr.buildkit.service import Caller
from knarr.daemon.control import CONTROL
from knarr.pb import content_pb2, control_pb2
from tests.buildkit.client import Client

from .conftest import Builder, Dockerfile, Running, running
from .test_control import exporter, member

pytestmark = [pytest.mark.root, pytest.mark.system]

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@pytest.fixture(scope="module")
def traced(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    place = tmp_path_factory.mktemp("traced")
    path = place / "steps" / "otel.sock"
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    with running(place / "root", f"--otel-socket-path={path}", environ=environ) as daemon:
        yield daemon, path


@pytest.fixture
def builder(traced: tuple[Running, Path], context: Path, tmp_path: Path) -> Iterator[Builder]:
    daemon = traced[0]
    lent = {"context": context, "dockerfile": context}
    with daemon.channel() as channel, Client(channel, tmp_path, id=os.urandom(8).hex(), directories=lent) as client:
        yield Builder(daemon, client, channel)


def told(builder: Builder) -> dict[str, str]:
    """The variables that a step has written to `/said`."""
    builder.build(Exporters=[exporter("tar")])
    lines = member(builder.client.files["0"], "said").decode().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_a_step_finds_the_socket_and_its_place_in_the_trace(
    builder: Builder, traced: tuple[Running, Path], dockerfile: Dockerfile
) -> None:
    dockerfile("FROM busybox\nRUN env > /said && test -S /dev/otel-grpc.sock && echo here >> /said\n")
    said = told(builder)
    assert said["OTEL_TRACES_EXPORTER"] == "otlp"
    assert said["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] == "unix:///dev/otel-grpc.sock"
    assert said["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "grpc"
    assert "here" in said
    _, trace, parent, _ = said["TRACEPARENT"].split("-")
    span = Span(
        trace_id=bytes.fromhex(trace), span_id=b"12345678", parent_span_id=bytes.fromhex(parent), name="compile"
    )
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    with grpc.insecure_channel(f"unix:{traced[1]}") as channel:
        channel.unary_unary(_EXPORT)(request.SerializeToString(), timeout=20)
    text = trace_of(builder)
    assert '"compile"' in text
    assert text.count(parent) >= 2  # the step's own span, and the one below it


def trace_of(builder: Builder) -> str:
    """The trace of the last build, as the history keeps it."""
    asked = control_pb2.BuildHistoryRequest(EarlyExit=True, Ref=f"{builder.client.id}-1")
    caller = Caller(builder.channel, CONTROL)
    (event,) = [found for found in caller.stream("ListenBuildHistory", asked) if found.record.HasField("trace")]
    reading = content_pb2.ReadContentRequest(digest=event.record.trace.digest)
    return b"".join(part.data for part in Caller(builder.channel, CONTENT).stream("Read", reading)).decode()


def test_a_dockerfile_may_want_none_of_it(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nENV OTEL_TRACES_EXPORTER=none\nRUN env > /said\n")
    assert told(builder)["OTEL_TRACES_EXPORTER"] == "none"


def test_steps_reach_nothing_else_of_the_daemon_there(traced: tuple[Running, Path]) -> None:
    assert stat.S_ISSOCK(traced[1].stat().st_mode)
    with grpc.insecure_channel(f"unix:{traced[1]}") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/moby.buildkit.v1.Control/ListWorkers")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_without_the_flag_steps_are_told_nothing(daemon: Running, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nRUN env > /said\n")
    lent = {"context": context, "dockerfile": context}
    with daemon.channel() as channel, Client(channel, tmp_path, id=os.urandom(8).hex(), directories=lent) as client:
        Builder(daemon, client, channel).build(Exporters=[exporter("tar")])
    with tarfile.open(fileobj=io.BytesIO(client.files["0"])) as tar:
        said = tar.extractfile("said")
        assert said is not None
        assert b"OTEL" not in said.read()
