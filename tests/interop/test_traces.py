"""Traces: buildx shows those of the history, and a collector gets them from daemon, client and `knarr build`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.content import CONTENT
from knarr.buildkit.service import Caller
from knarr.daemon.control import CONTROL
from knarr.pb import content_pb2, control_pb2
from tests.daemon.conftest import running
from tests.trace.collector import Collector, over_grpc

NAME = "service.name"
pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with over_grpc() as found:
        yield found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text(f"FROM busybox\nRUN echo {tmp_path}\n")
    return directory


@pytest.fixture
def buildx(buildx_program: str, tmp_path: Path) -> Callable[..., str]:
    environ = {**os.environ, "BUILDX_CONFIG": str(tmp_path / "buildx"), "BUILDX_BUILDER": "traced"}

    def run(*words: str | Path) -> str:
        command = [buildx_program, *map(str, words)]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


def test_the_history_has_the_trace_of_a_build_with_the_spans_of_its_client(
    bases: Any, buildx: Callable[..., str], collector: Collector, context: Path, tmp_path: Path
) -> None:
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    with running(tmp_path / "root", environ=environ) as daemon, daemon.channel() as channel:
        buildx("create", "--name", "traced", "--driver", "remote", f"unix://{daemon.socket}")
        buildx("build", context)
        traced = kept(channel, {"knarr-buildkitd", "buildx"})
    assert any(span["Name"].startswith("[2/2] RUN echo") for span in traced)
    ids = {span["SpanContext"]["TraceID"] for span in traced}
    assert len(ids) == 1
    solve = next(span for span in traced if span["Name"].endswith("Control/Solve") and span["SpanKind"] == 2)
    assert solve["Parent"]["SpanID"] in {span["SpanContext"]["SpanID"] for span in traced}
    assert ids <= {span.trace_id.hex() for span in collector.spans}
    assert {"knarr-buildkitd", "buildx"} <= collector.services


def kept(channel: grpc.Channel, services: set[str]) -> list[dict[str, Any]]:
    """The trace of the only build in the history, once it has spans of all `services`."""
    control, content = Caller(channel, CONTROL), Caller(channel, CONTENT)
    deadline = time.monotonic() + 30
    found: list[dict[str, Any]] = []
    while {
        pair["Value"]["Value"] for s in found for pair in s["Resource"] if pair["Key"] == "service.name"
    } != services:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
        (event,) = control.stream("ListenBuildHistory", control_pb2.BuildHistoryRequest(EarlyExit=True))
        if not event.record.trace.digest:
            continue
        assert event.record.trace.media_type == "application/vnd.buildkit.otlp.json.v0"
        asked = content_pb2.ReadContentRequest(digest=event.record.trace.digest)
        data = b"".join(piece.data for piece in content.stream("Read", asked))
        found = [json.loads(line) for line in data.splitlines()]
    return found


def test_buildx_shows_a_trace(bases: Any, buildx: Callable[..., str], context: Path, tmp_path: Path) -> None:
    if "history" not in buildx("--help"):
        pytest.skip("this buildx has no `history`: it came with 0.18")
    with running(tmp_path / "root", environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as daemon:
        buildx("create", "--name", "traced", "--driver", "remote", f"unix://{daemon.socket}")
        buildx("build", context)
        traced = json.loads(buildx("history", "trace"))["data"][0]
    assert any(span["operationName"].startswith("[2/2] RUN echo") for span in traced["spans"])
    assert {span["traceID"] for span in traced["spans"]} == {traced["traceID"]}
    assert "knarr-buildkitd" in {process["serviceName"] for process in traced["processes"].values()}


def test_a_build_without_a_daemon_is_traced_as_well(
    bases: Any, collector: Collector, context: Path, tmp_path: Path
) -> None:
    environ = {
        **os.environ,
        "KNARR_ROOT": str(tmp_path / "root"),
        "KNARR_HOSTS_DIR": str(bases.hosts_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "TRACEPARENT": "00-" + "c" * 32 + "-" + "d" * 16 + "-01",
    }
    command = [sys.executable, "-m", "knarr", "build", str(context)]
    subprocess.run(command, env=environ, check=True, capture_output=True)
    ours = [span for span in collector.spans if span.trace_id.hex() == "c" * 32]
    assert ours[0].parent_span_id.hex() == "d" * 16
    assert any(span.name.startswith("[2/2] RUN echo") and span.end_time_unix_nano for span in ours)


def test_a_collector_that_is_away_fails_no_build(bases: Any, context: Path, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "KNARR_ROOT": str(tmp_path / "root"),
        "KNARR_HOSTS_DIR": str(bases.hosts_dir),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    }
    begun = time.monotonic()
    command = [sys.executable, "-m", "knarr", "build", str(context)]
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    assert "warning: traces are lost: http://127.0.0.1:1" in done.stderr
    assert time.monotonic() - begun < 60
