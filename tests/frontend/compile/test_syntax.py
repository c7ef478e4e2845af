"""Which frontend a file asks for: the standard one is built in, another is an image."""

from __future__ import annotations

import pytest

from knarr.errors import Unsupported
from knarr.frontend.dockerfile.syntax import require_standard, wanted
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
    assert wanted(FrontendRequest(text.encode())) is None


@pytest.mark.parametrize(
    ("text", "image", "line"),
    [
        ("# syntax=example.com/other:1 --option\nnot a Dockerfile", "example.com/other:1", 1),
        ("# escape=`\n# syntax=docker/other\nFROM scratch", "docker/other", 2),
        ("// syntax=example.com/other\nanything", "example.com/other", 1),
        ('{"syntax": "example.com/other"}', "example.com/other", 1),
    ],
)
def test_another_frontend_is_known_with_its_line(text: str, image: str, line: int) -> None:
    found = wanted(FrontendRequest(text.encode()))
    assert found is not None
    assert found.image == image
    assert found.span is not None
    assert found.span.first == line


def test_a_frontend_is_told_all_that_named_it() -> None:
    found = wanted(FrontendRequest(b"# syntax=example.com/other:1 --option x\n"))
    assert found is not None
    assert found.command_line == "example.com/other:1 --option x"


@pytest.mark.parametrize(
    ("forced", "image"),
    [
        ("dockerfile.v0", None),
        ("docker/dockerfile:1", None),
        ("docker-image://docker/dockerfile:1.7-labs", "docker/dockerfile:1.7-labs"),
        ("example.com/x --y", "example.com/x"),
    ],
)
def test_the_build_argument_comes_before_the_file(forced: str, image: str | None) -> None:
    found = wanted(FrontendRequest(b"# syntax=example.com/other\n", build_args={"BUILDKIT_SYNTAX": forced}))
    assert (found.image if found else None) == image


def test_what_builds_nothing_refuses_an_image_with_its_line() -> None:
    with pytest.raises(Unsupported, match="only the frontend that is built in can write the graph") as caught:
        require_standard(FrontendRequest(b"# syntax=example.com/other\nFROM scratch"))
    assert caught.value.span is not None
    assert "BUILDKIT_SYNTAX=dockerfile.v0" in caught.value.hint
