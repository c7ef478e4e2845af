"""Errors as statuses, and statuses of others as errors."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.buildkit.failure import SOURCE, error_of, status_of
from knarr.errors import Bug, Cancelled, DockerfileError, Excerpt, KnarrError, NotFound, Span, UsageError
from knarr.frontend.dockerfile.parser import parse
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


def test_a_file_that_is_missing_has_the_words_by_which_clients_know_it() -> None:
    error = NotFound("app.py: not in the build context", hint="the build context has app.p").at(
        "app.py", "build context"
    )
    assert status_of(error).message == (
        'failed to compute cache key: failed to calculate checksum of ref build-context: "/app.py": not found\n'
        "hint: the build context has app.p"
    )


def test_a_guess_is_part_of_the_message() -> None:
    status = status_of(UsageError('target stage "bulid" could not be found', hint="did you mean build?"))
    assert status.message == 'target stage "bulid" could not be found (did you mean build?)'


def test_an_instruction_that_cannot_be_read_is_told_with_its_line() -> None:
    with pytest.raises(DockerfileError) as raised:
        parse(b"FROM scratch\nBADCMD\n")
    assert (
        status_of(raised.value).message.splitlines()[0]
        == "dockerfile parse error on line 2: unknown instruction: BADCMD"
    )


def test_a_place_brings_the_whole_text_and_a_range_for_each_line() -> None:
    error = KnarrError(
        "no", span=Span("Dockerfile", 2, 3), excerpt=Excerpt(("FROM a", "RUN b \\", " c"), b"FROM a\nRUN b \\\n c\n")
    )
    source = json.loads(status_of(error).details[0].value)
    assert base64.b64decode(source["info"]["data"]) == b"FROM a\nRUN b \\\n c\n"
    assert source["info"]["language"] == "Dockerfile"
    assert [place["start"]["line"] for place in source["ranges"]] == [2, 3]


def test_every_place_of_a_graph_is_told_in_its_order_with_its_own_text() -> None:
    error = KnarrError("no", span=Span("foo", 7, 7, 3), excerpt=Excerpt(("data1",), b"data1", language="mine"))
    error.further = ((Span("bar", 8, 8), Excerpt(("data2",), b"data2")), (Span("foo", 9, 9), None))
    told = [json.loads(detail.value) for detail in reversed(status_of(error).details)]
    assert [(source["info"]["filename"], source["ranges"][0]["start"]) for source in told] == [
        ("foo", {"line": 7, "character": 3}),
        ("bar", {"line": 8}),
        ("foo", {"line": 9}),
    ]
    assert told[0]["info"]["language"] == "mine"


def test_a_long_message_is_cut_to_what_a_header_may_carry() -> None:
    error = KnarrError("x" * 10_000, hint="é" * 10_000)
    assert len(status_of(error).message.encode()) <= 4096
