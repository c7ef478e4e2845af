"""Errors as statuses, and statuses of others as errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.buildkit.failure import SOURCE, error_of, status_of
from knarr.errors import Bug, Cancelled, KnarrError, Span
from knarr.pb.status_pb2 import Status

# As BuildKit's Dockerfile frontend gives it for `FOO` on line 2, details and all.
SOURCE_JSON = (
    '{"info":{"filename":"Dockerfile","data":"RlJPTSBhCkZPTwo=","definition":{"def":["CgA="]},"language":"Dockerfile"},'
    '"ranges":[{"start":{"line":2},"end":{"line":2}}]}'
)


def test_the_place_that_buildkit_tells_is_shown() -> None:
    status = Status(code=2, message="unknown instruction: FOO")
    status.details.add(type_url=SOURCE, value=SOURCE_JSON.encode())
    error = error_of(status)
    assert error.span == Span("Dockerfile", 2, 2)
    assert error.render().splitlines()[:3] == ["Dockerfile:2", "  1 |     FROM a", "  2 | >>> FOO"]


@pytest.mark.parametrize(
    "value",
    [
        *("", "[]", "{}", "null", '{"info":null,"ranges":[]}', '{"info":{"filename":"f"},"ranges":[]}'),
        *('{"info":{"filename":"f","data":"é"},"ranges":[{"start":{"line":1}}]}', "[" * 100_000),
        *('{"info":{"filename":"f"},"ranges":[{"start":{"line":"x"}}]}', '{"info":{"filename":"f"},"ranges":[null]}'),
    ],
)
def test_a_place_that_makes_no_sense_is_left_out(value: str) -> None:
    status = Status(code=2, message="it failed")
    status.details.add(type_url=SOURCE, value=value.encode())
    assert error_of(status).render() == "error: it failed"


@given(st.integers(-(2**31), 2**31), st.integers(-(2**31), 2**31))
@settings(deadline=None, max_examples=50)
def test_lines_that_are_not_in_the_file_do_no_harm(start: int, end: int) -> None:
    status = Status(code=2, message="it failed")
    source = {"info": {"filename": "f", "data": "YQ=="}, "ranges": [{"start": {"line": start}, "end": {"line": end}}]}
    status.details.add(type_url=SOURCE, value=json.dumps(source).encode())
    assert error_of(status).render().endswith("error: it failed")


def test_a_defect_and_a_cancellation_have_codes_of_their_own() -> None:
    assert status_of(Bug("it broke")).code == 13
    assert status_of(Cancelled()).code == 1
    assert status_of(KnarrError("it failed")).code == 2


def test_a_long_message_is_cut_to_what_a_header_may_carry() -> None:
    error = KnarrError("x" * 10_000, hint="é" * 10_000)
    assert len(status_of(error).message.encode()) <= 4096
