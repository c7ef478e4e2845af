"""A file that asks for another frontend is refused by name; the standard one is built in."""

from __future__ import annotations

import pytest

from knarr.errors import Unsupported
from knarr.frontend.dockerfile.syntax import require_standard
from knarr.frontend.request import FrontendRequest


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch",
        "# syntax=docker/dockerfile:1\nFROM scratch",
        "# syntax = docker.io/docker/dockerfile:1.7-labs\nFROM scratch",
        "#syntax=docker/dockerfile-upstream:master\nFROM scratch",
        "# syntax=dockerfile.v0\nFROM scratch",
        "# a comment ends the directives\n# syntax=example.com/other\nFROM scratch",
        "FROM scratch\n# syntax=example.com/other",
    ],
)
def test_the_built_in_frontend_reads(text: str) -> None:
    require_standard(FrontendRequest(text.encode()))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# syntax=example.com/other:1 --option\nnot a Dockerfile", 1),
        ("# escape=`\n# syntax=docker/other\nFROM scratch", 2),
        ("// syntax=example.com/other\nanything", 1),
        ('{"syntax": "example.com/other"}', 1),
    ],
)
def test_another_frontend_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Unsupported, match="frontend images are not supported yet") as caught:
        require_standard(FrontendRequest(text.encode()))
    assert caught.value.span is not None
    assert caught.value.span.first == line
    assert "BUILDKIT_SYNTAX=dockerfile.v0" in caught.value.hint


def test_the_build_argument_comes_before_the_file() -> None:
    args = {"BUILDKIT_SYNTAX": "dockerfile.v0"}
    require_standard(FrontendRequest(b"# syntax=example.com/other\nFROM scratch", build_args=args))
    with pytest.raises(Unsupported, match=r"BUILDKIT_SYNTAX=example\.com/x"):
        require_standard(FrontendRequest(b"FROM scratch", build_args={"BUILDKIT_SYNTAX": "example.com/x"}))
