"""The writer between a build and its terminal."""

from __future__ import annotations

import io
import os
import threading
import time

import pytest

from knarr.cli.progress.feed import Feed
from knarr.cli.progress.plain import Plain
from knarr.progress import Log, VertexDone, VertexStarted


def test_everything_is_written_when_the_block_ends() -> None:
    out = io.BytesIO()
    with Feed(Plain(), out) as feed:
        feed.send(VertexStarted("a", "A"))
        for number in range(1000):
            feed.send(Log("a", 1, b"line %d\n" % number))
        feed.send(VertexDone("a"))
    assert out.getvalue().count(b"\n") == 1002


def test_it_is_written_also_when_the_build_fails() -> None:
    out = io.BytesIO()

    def build() -> None:
        with Feed(Plain(), out) as feed:
            feed.send(VertexStarted("a", "A"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build()
    assert out.getvalue() == b"#1 A\n"


def test_the_end_does_not_wait_for_the_next_frame() -> None:
    started = time.monotonic()
    renderer = Plain()
    renderer.interval_s = 30
    with Feed(renderer, io.BytesIO()) as feed:
        feed.send(VertexStarted("a", "A"))
        time.sleep(0.05)
    assert time.monotonic() - started < 5


def test_a_terminal_that_is_stuck_does_not_hold_up_the_build() -> None:
    read_end, write_end = os.pipe()
    with open(write_end, "wb", buffering=0) as out, Feed(Plain(), out) as feed:
        feed.send(VertexStarted("a", "A"))
        for _ in range(8):
            feed.send(Log("a", 1, b"x" * (1 << 20)))  # far more than a pipe holds, and nobody reads yet
        reader = threading.Thread(target=_drain, args=(read_end,))
        reader.start()
    reader.join()


def _drain(descriptor: int) -> None:
    while os.read(descriptor, 1 << 20):
        pass
    os.close(descriptor)


def test_a_reader_that_went_away_does_not_fail_the_build() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "wb", buffering=0) as out, Feed(Plain(), out) as feed:
        for id in "abc":
            feed.send(VertexStarted(id, id))
