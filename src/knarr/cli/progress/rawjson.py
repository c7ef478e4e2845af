"""Progress for programs: one JSON object a line, as `buildx build --progress=rawjson` writes it.

The objects are BuildKit's `client.SolveStatus`: lists of vertexes, statuses, logs
and warnings. A vertex is known by a digest; one that has none of its own gets the
digest of its name.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from knarr.cli.progress.steps import Step, Steps
from knarr.progress import Event, Log, Status, VertexDone, VertexStarted, Warned


class RawJson:
    """A renderer (see `feed.Renderer`)."""

    for_people = False
    interval_s = 0.05
    idle_s = 60.0

    def __init__(self) -> None:
        self.steps = Steps()
        self._inputs: dict[str, tuple[str, ...]] = {}

    def render(self, events: Iterable[Event], now_ns: int) -> bytes:
        """The lines for `events`."""
        return b"".join(
            json.dumps(self._object(event, now_ns), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
            for event in events
        )

    def close(self, now_ns: int) -> bytes:
        """Nothing is ever kept back."""
        return b""

    def _object(self, event: Event, now_ns: int) -> dict[str, list[dict[str, Any]]]:
        step = self.steps.apply(event, now_ns)
        at = event.at_ns or now_ns
        if isinstance(event, VertexStarted):
            self._inputs[event.id] = event.inputs
            return {"vertexes": [self._vertex(step)]}
        if isinstance(event, VertexDone):
            return {"vertexes": [self._vertex(step)]}
        if isinstance(event, Status):
            status = _status(event, step, at)
            return {"vertexes": [self._vertex(step)], "statuses": [status]} if step.implied else {"statuses": [status]}
        if isinstance(event, Log):
            data = b64encode(event.data).decode()
            return {
                "logs": [{"vertex": _digest(step.id), "stream": event.stream, "data": data, "timestamp": _time(at)}]
            }
        return {"warnings": [_warning(event, step)]}

    def _vertex(self, step: Step) -> dict[str, Any]:
        vertex: dict[str, Any] = {"digest": _digest(step.id)}
        inputs = self._inputs.get(step.id)
        if inputs:
            vertex["inputs"] = [_digest(id) for id in inputs]
        vertex["name"] = step.name
        vertex["started"] = _time(step.started_ns)
        if step.done_ns:
            vertex["completed"] = _time(step.done_ns)
        if step.cached:
            vertex["cached"] = True
        error = step.error or ("context canceled" if step.cancelled else "")
        if error:
            vertex["error"] = error
        return vertex


def _status(event: Status, step: Step, at: int) -> dict[str, Any]:
    status: dict[str, Any] = {"id": event.id, "vertex": _digest(step.id), "current": event.current}
    if event.total:
        status["total"] = event.total
    status["timestamp"] = _time(at)
    status["started"] = _time(step.counters[event.id].started_ns)
    if event.done:
        status["completed"] = _time(at)
    return status


def _log(event: Log, at: int) -> dict[str, Any]:
    data = b64encode(event.data).decode()
    return {"vertex": _digest(event.vertex), "stream": event.stream, "data": data, "timestamp": _time(at)}


def _warning(event: Warned, step: Step) -> dict[str, Any]:
    warning: dict[str, Any] = {
        "vertex": _digest(step.id),
        "level": 1,
        "short": b64encode(event.message.encode()).decode(),
    }
    if event.detail:
        warning["detail"] = [b64encode(event.detail.encode()).decode()]
    if event.url:
        warning["url"] = event.url
    if event.line:
        place = {"line": event.line}
        warning["range"] = [{"start": place, "end": place}]
    return warning


@lru_cache(maxsize=4096)
def _digest(id: str) -> str:
    return id if id.startswith("sha256:") else f"sha256:{sha256(id.encode(errors='replace')).hexdigest()}"


def _time(nanoseconds: int) -> str:
    """RFC 3339 as Go writes it: nanoseconds, closing zeros cut."""
    whole, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
