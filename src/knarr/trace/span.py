"""Spans of a build, made of its steps. Pure, but for the random ids.

Spec: OpenTelemetry specification 1.x, "Tracing API"; W3C Trace Context, `traceparent`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256

from knarr.record import field, record

Value = str | bool | int | float | tuple[str, ...]

UNSET, OK, ERROR = 0, 1, 2  # of a span's status, as OTLP numbers them
INTERNAL, SERVER = 1, 2  # kinds
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_LONGEST_NAME = 200


@record
class Place:
    """Where spans hang: a trace, and the span above ("": none). Ids in hex, as traces are spoken of."""

    trace: str
    parent: str = ""


@record
class Span:
    """One span. Times in ns since 1970."""

    trace: str
    id: str
    parent: str
    name: str
    started_ns: int
    ended_ns: int
    kind: int = INTERNAL
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)
    status: int = UNSET
    message: str = ""
    resource: Mapping[str, Value] = field(default_factory=dict, hash=False)
    scope: tuple[str, str] = ("", "")  # name and version of what made it


@record
class Step:
    """What is known of a step. `ended_ns` 0: it never ended."""

    id: str
    name: str
    inputs: tuple[str, ...]
    started_ns: int
    ended_ns: int
    cached: bool = False
    error: str = ""


def place(traceparent: str) -> Place:
    """Where a caller's `traceparent` says that spans belong; a new trace where it says nothing."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return Place(os.urandom(16).hex())
    return Place(match[1], match[2])


def step_span(trace: str, step: str) -> str:
    """The id of a step's span, known before it ends: what the step tells itself hangs below it."""
    return sha256(f"{trace}/{step}".encode()).hexdigest()[:16]


def traceparent(at: Place, step: str) -> str:
    """What a step is told, so that its own spans hang below its span."""
    return f"00-{at.trace}-{step_span(at.trace, step)}-01"


def spans(
    at: Place,
    name: str,
    begun_ns: int,
    ended_ns: int,
    steps: Iterable[Step],
    *,
    attributes: Mapping[str, Value],
    resource: Mapping[str, Value],
    error: str = "",
) -> Iterator[Span]:
    """A span for the build, with one below it for each step."""
    root = os.urandom(8).hex()
    scope = ("knarr", str(resource.get("service.version", "")))
    yield Span(
        *(at.trace, root, at.parent, name, begun_ns, ended_ns, SERVER if at.parent else INTERNAL),
        attributes=attributes,
        status=ERROR if error else OK,
        message=error,
        resource=resource,
        scope=scope,
    )
    for step in steps:
        known: dict[str, Value] = {"vertex": step.id, "cached": step.cached}
        if step.inputs:
            known["inputs"] = step.inputs
        yield Span(
            *(at.trace, step_span(at.trace, step.id), root, step.name[:_LONGEST_NAME]),
            *(step.started_ns or begun_ns, step.ended_ns or ended_ns),
            attributes=known,
            status=ERROR if step.error else UNSET,
            message=step.error,
            resource=resource,
            scope=scope,
        )
