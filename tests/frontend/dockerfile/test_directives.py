"""Parser directives at the head of a file."""

from __future__ import annotations

import pytest

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.directives import detect_syntax, read_directives


def found(text: str) -> list[tuple[str, str, int]]:
    return [(d.name, d.value, d.span.first) for d in read_directives(text.split("\n"), "Dockerfile")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# syntax=a/b:1\n# escape=`\nFROM x", [("syntax", "a/b:1", 1), ("escape", "`", 2)]),
        ("#SYNTAX  =  a b c  \r\n", [("syntax", "a b c", 1)]),
        ("   # check=skip=all", [("check", "skip=all", 1)]),
        ("#!/bin/x\n# syntax=a", [("syntax", "a", 2)]),
        ("# just words\n# syntax=a", []),
        ("# other=1\n# syntax=a", []),
        ("\n# syntax=a", []),
        ("FROM x\n# syntax=a", []),
        ("# syntax=\n", []),
        ("", []),
    ],
)
def test_directives_end_at_the_first_line_that_is_none(text: str, expected: list[tuple[str, str, int]]) -> None:
    assert found(text) == expected


def test_a_directive_given_twice_is_refused_at_the_second() -> None:
    with pytest.raises(DockerfileError, match="only one syntax parser directive") as caught:
        found("# syntax=a\n# Syntax=b\n")
    assert caught.value.span is not None
    assert caught.value.span.first == 2


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (b"\xef\xbb\xbf# syntax = a/b:1 --flag\n", "a/b:1 --flag"),
        (b"// syntax=a\n", "a"),
        (b'{"syntax": "a", "x": 1}', "a"),
        (b'{"syntax": 1}', ""),
        (b'["syntax"]', ""),
        (b"{" * 100_000, ""),
        (b"# escape=`\nFROM x", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_the_frontend_image_that_a_file_of_any_kind_asks_for(data: bytes, syntax: str) -> None:
    assert detect_syntax(data) == syntax
