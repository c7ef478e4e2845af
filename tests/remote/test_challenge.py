from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.remote.challenge import Challenge, parse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="x"'], [Challenge("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/token",service="r, with comma",scope="repository:a/b:pull,push"'],
            [
                Challenge(
                    "bearer",
                    {"realm": "https://a/token", "service": "r, with comma", "scope": "repository:a/b:pull,push"},
                )
            ],
        ),
        (['bearer Realm = "a\\"b" , service=plain'], [Challenge("bearer", {"realm": 'a"b', "service": "plain"})]),
        (
            ['Basic realm="x", Bearer realm="y"', "Negotiate"],
            [Challenge("basic", {"realm": "x"}), Challenge("bearer", {"realm": "y"}), Challenge("negotiate", {})],
        ),
        (["Negotiate YWJj==, Basic realm=x"], [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]),
        (["Negotiate, Basic realm=x"], [Challenge("negotiate", {}), Challenge("basic", {"realm": "x"})]),
        (["", "  ,"], []),
    ],
)
def test_challenges_are_read(headers: list[str], expected: list[Challenge]) -> None:
    assert list(parse(headers)) == expected


VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)), min_size=1, max_size=3))
def test_whatever_is_quoted_by_the_rules_is_read_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    text = ", ".join(
        f"{scheme} " + ",".join(f"{name}={quoted(value)}" for name, value in params.items())
        for scheme, params in challenges
    )
    assert [(found.scheme, dict(found.params)) for found in parse([text])] == challenges


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_no_header_breaks_the_parser(text: str) -> None:
    parse([text])
