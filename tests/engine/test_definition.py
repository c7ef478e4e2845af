"""The step that stands for reading the Dockerfile."""

from __future__ import annotations

import pytest

from knarr.engine.definition import told
from knarr.errors import KnarrError, Span
from knarr.frontend.request import FrontendRequest, Warning
from knarr.progress import Event, VertexDone, VertexStarted, Warned

REQUEST = FrontendRequest(b"", filename="some/where/Dockerfile")
FOUND = Warning("Rule", "what it is about", "https://example.com/rule/", "a sentence", Span("Dockerfile", 3, 4))


class Kept:
    """A sink that keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)


def test_findings_are_shown_within_the_step() -> None:
    kept = Kept()

    with told(REQUEST, kept) as warnings:
        warnings.append(FOUND)
        warnings.append(Warning("Other", "", "", "about no place"))

    started, first, second, done = kept.events
    assert isinstance(started, VertexStarted)
    assert started.name == "[internal] load build definition from Dockerfile"
    assert isinstance(first, Warned)
    assert (first.vertex, first.message, first.detail) == (started.id, "Rule: a sentence", "what it is about")
    assert (first.url, first.file, first.line) == ("https://example.com/rule/", "Dockerfile", 3)
    assert isinstance(second, Warned)
    assert (second.file, second.line) == ("", 0)
    assert isinstance(done, VertexDone)
    assert (done.id, done.error) == (started.id, "")


def test_they_are_shown_also_when_it_fails() -> None:
    kept = Kept()

    with pytest.raises(KnarrError):
        fail_after_finding(kept)

    assert [type(event) for event in kept.events] == [VertexStarted, Warned, VertexDone]
    assert kept.events[-1].error == "it does not parse"  # type: ignore[union-attr]


def fail_after_finding(kept: Kept) -> None:
    with told(REQUEST, kept) as warnings:
        warnings.append(FOUND)
        raise KnarrError("it does not parse")
