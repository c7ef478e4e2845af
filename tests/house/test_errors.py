"""Every class of error can be shown to a person."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from knarr import errors
from knarr.errors import Excerpt, KnarrError, Span


def classes(top: type[KnarrError]) -> Iterator[type[KnarrError]]:
    yield top
    for below in top.__subclasses__():
        yield from classes(below)


def example(kind: type[KnarrError]) -> KnarrError:
    if kind is errors.StepFailed:
        return errors.StepFailed("it failed", step="RUN make", status=2, output=("no rule",), hint="try again")
    if kind is errors.Bug:
        return errors.Bug("it failed")
    return kind("it failed", hint="try again")


KINDS = [kind for kind in classes(KnarrError) if kind.__module__ == "knarr.errors"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_shows_place_fact_and_way_out(kind: type[KnarrError]) -> None:
    error = example(kind).with_context(
        span=Span("Dockerfile", 2, 2), excerpt=Excerpt(("FROM a", "RUN make")), platform="linux/arm64"
    )
    text = error.render()
    assert text.splitlines()[0] == "Dockerfile:2"
    assert "  2 | >>> RUN make" in text
    assert "error: it failed (platform linux/arm64)" in text
    assert text.splitlines()[-1].startswith("hint: ")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_ends_the_command_with_a_status_that_is_not_zero(kind: type[KnarrError]) -> None:
    assert kind.exit_code in (1, 2, 70)


def test_what_would_work_on_a_terminal_is_not_shown() -> None:
    error = KnarrError("unknown instruction: \x1b[2J\udcff")
    error.with_context(span=Span("Dockerfile", 1, 1), excerpt=Excerpt(("\x1b[2J" + "A" * 10**6,)))
    text = error.render()
    assert "\x1b" not in text
    assert text.endswith("error: unknown instruction: �[2J�")
    assert len(text) < 1000
