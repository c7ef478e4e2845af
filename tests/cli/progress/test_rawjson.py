"""Progress for programs, in the fields of BuildKit's SolveStatus."""

from __future__ import annotations

import json
from typing import Any

from knarr.cli.progress.rawjson import RawJson
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned

AT = 1_732_439_156_415_047_870
TIME = "2024-11-24T09:05:56.41504787Z"
DIGEST = "sha256:" + "ab" * 32


def lines(*events: Event) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RawJson().render(events, AT).splitlines()]


def test_a_step_from_start_to_end() -> None:
    started, done = lines(
        VertexStarted(DIGEST, "[2/2] RUN x", (DIGEST,), AT), VertexDone(DIGEST, cached=True, at_ns=AT)
    )
    step = {"digest": DIGEST, "inputs": [DIGEST], "name": "[2/2] RUN x", "started": TIME}
    assert started == {"vertexes": [step]}
    assert done == {"vertexes": [{**step, "completed": TIME, "cached": True}]}


def test_a_step_without_digest_gets_one_that_stays() -> None:
    started, log = lines(VertexStarted("exporting", "exporting", at_ns=AT), Log("exporting", 2, b"hi\n", AT))
    assert started["vertexes"][0]["digest"].startswith("sha256:")
    assert log == {
        "logs": [{"vertex": started["vertexes"][0]["digest"], "stream": 2, "data": "aGkK", "timestamp": TIME}]
    }


def test_counters() -> None:
    _, status = lines(VertexStarted(DIGEST, "pull", at_ns=AT), Status(DIGEST, "layer", 5, 10, True, AT, AT))
    assert status == {
        "statuses": [
            {
                "id": "layer",
                "vertex": DIGEST,
                "current": 5,
                "total": 10,
                "timestamp": TIME,
                "started": TIME,
                "completed": TIME,
            }
        ]
    }


def test_failures_and_warnings() -> None:
    _, failed, warned = lines(
        VertexStarted(DIGEST, "RUN x", at_ns=AT),
        VertexDone(DIGEST, error="exit code: 1", at_ns=AT),
        Warned(DIGEST, "Rule: text", line=3),
    )
    assert failed["vertexes"][0]["error"] == "exit code: 1"
    assert warned["warnings"][0]["range"] == [{"start": {"line": 3}, "end": {"line": 3}}]
