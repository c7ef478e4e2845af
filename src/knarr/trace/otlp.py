"""Spans in OpenTelemetry's protocol, written and read with its own messages (the extra `otel`).

Spec: opentelemetry-proto 1.x, collector/trace/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from knarr.trace.span import Span, Value


def message(spans: Sequence[Span]) -> bytes:
    """A request that tells a collector of `spans`."""
    request = ExportTraceServiceRequest()
    for _, group in groupby(spans, key=lambda span: (id(span.resource), span.scope)):
        members = list(group)
        part = request.resource_spans.add()
        part.resource.attributes.extend(_pairs(members[0].resource))
        scoped = part.scope_spans.add()
        scoped.scope.name, scoped.scope.version = members[0].scope
        for span in members:
            _add(scoped.spans.add(), span)
    data: bytes = request.SerializeToString()
    return data


def _add(found: object, span: Span) -> None:
    made = found  # one of the message's own, which has no type that can be named
    made.trace_id, made.span_id = bytes.fromhex(span.trace), bytes.fromhex(span.id)  # type: ignore[attr-defined]
    made.parent_span_id = bytes.fromhex(span.parent)  # type: ignore[attr-defined]
    made.name, made.kind = span.name, span.kind  # type: ignore[attr-defined]
    made.start_time_unix_nano, made.end_time_unix_nano = span.started_ns, span.ended_ns  # type: ignore[attr-defined]
    made.attributes.extend(_pairs(span.attributes))  # type: ignore[attr-defined]
    made.status.code, made.status.message = span.status, span.message  # type: ignore[attr-defined]


def _pairs(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, tuple):
        return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=part) for part in value]))
    return AnyValue(string_value=value)


def read(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """The spans that a client tells of; what is no value of a kind that is known here is left out."""
    for part in request.resource_spans:
        resource = _values(part.resource.attributes)
        for scoped in part.scope_spans:
            for span in scoped.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.kind,
                    attributes=_values(span.attributes),
                    status=span.status.code,
                    message=span.status.message,
                    resource=resource,
                    scope=(scoped.scope.name, scoped.scope.version),
                )


def _values(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind == "array_value":
            found[pair.key] = tuple(part.string_value for part in pair.value.array_value.values)
        elif kind in ("string_value", "bool_value", "int_value", "double_value"):
            found[pair.key] = getattr(pair.value, kind)
    return found
