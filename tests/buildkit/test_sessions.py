"""Sessions that their clients leave without a word, or keep and say nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from knarr.buildkit.sessions import Patience, Sessions

from .client import Client
from .conftest import Connect


class Stalled(Client):
    """Takes what comes, and answers nothing: a process that was stopped."""

    def _pump(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for _ in self.call:
                pass


@pytest.fixture
def sessions(private: Path) -> Iterator[Sessions]:
    found = Sessions(private, Patience(every_s=0.05, answer_s=0.2))
    yield found
    found.close()


def eventually_gone(sessions: Sessions) -> bool:
    deadline = time.monotonic() + 20
    while sessions.count and time.monotonic() < deadline:
        time.sleep(0.02)
    return sessions.count == 0


def test_a_client_that_says_nothing_any_more_is_broken_off(connect: Connect, sessions: Sessions, private: Path) -> None:
    channel = connect()._channel
    with Stalled(channel, private, id="stalled"):
        assert sessions.get("stalled", wait_s=5) is not None
        assert eventually_gone(sessions)


def test_a_client_that_answers_stays_though_it_knows_nothing_of_health(connect: Connect, sessions: Sessions) -> None:
    with connect(id="lively"):
        assert sessions.get("lively", wait_s=5) is not None
        time.sleep(1.0)  # several times what a silent one has
        assert sessions.get("lively") is not None
    assert eventually_gone(sessions)


@pytest.mark.parametrize(("asked", "stays"), [("3600000", True), ("soon", False), ("0", False)])
def test_a_client_says_how_long_it_may_be_silent(
    connect: Connect, sessions: Sessions, private: Path, asked: str, *, stays: bool
) -> None:
    headers = [("x-buildkit-session-health-custom-timeout", asked)]
    with Stalled(connect()._channel, private, id="slow", headers=headers):
        assert sessions.get("slow", wait_s=5) is not None
        time.sleep(1.0)  # more than the usual patience of these tests
        assert (sessions.get("slow") is not None) == stays
