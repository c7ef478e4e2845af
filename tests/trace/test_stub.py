"""Spans as BuildKit keeps them."""

from __future__ import annotations

import json

from knarr.trace.span import ERROR, OK, SERVER, Span
from knarr.trace.stub import text


def test_a_span_has_the_form_that_gos_sdk_reads() -> None:
    who = {"service.name": "knarr"}
    attributes = {"s": "x", "b": True, "i": 3, "f": 0.5, "l": ("a", "b")}
    root = Span("a" * 32, "b" * 16, "", "Solve", 1_700_000_000_000_000_001, 1_700_000_001_500_000_000, SERVER)
    step = Span(
        "a" * 32, "c" * 16, "b" * 16, "RUN x", 0, 1, attributes=attributes, status=ERROR, message="no", resource=who
    )
    first, second = map(json.loads, text([root, step]).splitlines())
    assert (first["StartTime"], first["EndTime"]) == (
        "2023-11-14T22:13:20.000000001Z",
        "2023-11-14T22:13:21.500000000Z",
    )
    assert (first["Parent"]["SpanID"], first["Parent"]["TraceID"], first["SpanKind"]) == ("0" * 16, "0" * 32, 2)
    assert second["Parent"] == {**first["SpanContext"], "Remote": False}
    assert second["Status"] == {"Code": 1, "Description": "no"}
    types = {pair["Key"]: pair["Value"]["Type"] for pair in second["Attributes"]}
    assert types == {"s": "STRING", "b": "BOOL", "i": "INT64", "f": "FLOAT64", "l": "STRINGSLICE"}
    assert second["Resource"] == [{"Key": "service.name", "Value": {"Type": "STRING", "Value": "knarr"}}]


def test_a_status_that_is_well_is_numbered_as_go_does() -> None:
    assert json.loads(text([Span("a" * 32, "b" * 16, "", "x", 0, 1, status=OK)]))["Status"]["Code"] == 2
