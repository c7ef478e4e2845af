"""Spans as BuildKit keeps them in its history: the JSON of Go's OpenTelemetry SDK, one object after the other.

`docker buildx history trace` reads it. Codes of a status are numbered otherwise than in OTLP.

Spec: BuildKit's solver/llbsolver/history (application/vnd.buildkit.otlp.json.v0), buildx's util/otelutil.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from knarr.trace.span import ERROR, OK, UNSET, Span, Value

MEDIA_TYPE = "application/vnd.buildkit.otlp.json.v0"
_CODES = {UNSET: 0, ERROR: 1, OK: 2}
_NO_SPAN = "0" * 16
_NO_TRACE = "0" * 32


def text(spans: Iterable[Span]) -> bytes:
    """All of `spans`."""
    resources: dict[int, list[dict[str, Any]]] = {}  # spans of one process share theirs
    lines = []
    for span in spans:
        resource = resources.get(id(span.resource))
        if resource is None:
            resource = resources[id(span.resource)] = _pairs(span.resource)
        lines.append(json.dumps(_stub(span, resource)))
    return "".join(f"{line}\n" for line in lines).encode()


def _stub(span: Span, resource: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Name": span.name,
        "SpanContext": _context(span.trace, span.id),
        "Parent": _context(span.trace if span.parent else "", span.parent),
        "SpanKind": span.kind,
        "StartTime": _time(span.started_ns),
        "EndTime": _time(span.ended_ns),
        "Attributes": _pairs(span.attributes),
        "Events": None,
        "Links": None,
        "Status": {"Code": _CODES.get(span.status, 0), "Description": span.message},
        "DroppedAttributes": 0,
        "DroppedEvents": 0,
        "DroppedLinks": 0,
        "ChildSpanCount": 0,
        "Resource": resource,
        "InstrumentationLibrary": {"Name": span.scope[0], "Version": span.scope[1], "SchemaURL": ""},
    }


def _context(trace: str, span: str) -> dict[str, Any]:
    return {
        "TraceID": trace or _NO_TRACE,
        "SpanID": span or _NO_SPAN,
        "TraceFlags": "01" if span else "00",
        "TraceState": "",
        "Remote": False,
    }


def _time(ns: int) -> str:
    return f"{_second(ns // 10**9)}.{ns % 10**9:09}Z"


@lru_cache(32)
def _second(seconds: int) -> str:
    """The time to the second: most spans of a build share it, and strftime is slow."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def _pairs(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"Key": key, "Value": {"Type": _type(value), "Value": value}} for key, value in values.items()]


def _type(value: Value) -> str:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, int):
        return "INT64"
    if isinstance(value, float):
        return "FLOAT64"
    return "STRINGSLICE" if isinstance(value, tuple) else "STRING"
