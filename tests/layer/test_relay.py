from __future__ import annotations

import io
import threading
import time

import pytest

from knarr.layer.relay import ReadAhead, WriteBehind
from knarr.streams import CHUNK

DATA = bytes(range(256)) * 20_000  # 5 MiB


class Collector:
    def __init__(self, *, fail_at: int = -1, delay_s: float = 0) -> None:
        self.chunks: list[bytes] = []
        self.threads: set[int] = set()
        self._fail_at = fail_at
        self._delay = delay_s

    def write(self, data: bytes) -> None:
        time.sleep(self._delay)
        if len(self.chunks) == self._fail_at:
            raise OSError("full")
        self.threads.add(threading.get_ident())
        self.chunks.append(data)


class Source:
    def __init__(self, chunks: int, *, fail_at: int = -1) -> None:
        self.given = 0
        self._chunks = chunks
        self._fail_at = fail_at

    def read(self, size: int = -1) -> bytes:
        if self.given == self._fail_at:
            raise OSError("broken")
        if self.given == self._chunks:
            return b""
        self.given += 1
        return b"%03d" % self.given


def threads() -> int:
    return threading.active_count()


def test_writes_arrive_in_order_on_another_thread() -> None:
    target = Collector(delay_s=0.001)
    with WriteBehind(target) as behind:
        for number in range(50):
            behind.write(b"%d" % number)
    assert target.chunks == [b"%d" % number for number in range(50)]
    assert target.threads.isdisjoint({threading.get_ident()})


def test_one_write_needs_no_thread() -> None:
    target = Collector()
    with WriteBehind(target) as behind:
        behind.write(b"only")
        assert threads() == 1
    assert target.threads == {threading.get_ident()}


def test_the_writer_waits_for_a_slow_target() -> None:
    target = Collector(delay_s=0.002)
    with WriteBehind(target, depth=2) as behind:
        for number in range(20):
            behind.write(b"x")
            assert number + 1 - len(target.chunks) <= 4  # two queued, one in hand, one being queued


def test_a_failing_target_stops_the_writer() -> None:
    def run() -> None:
        with WriteBehind(Collector(fail_at=3)) as behind:
            for _ in range(1000):
                behind.write(b"x")

    with pytest.raises(OSError, match="full"):
        run()
    assert threads() == 1


def test_a_target_that_fails_last_is_noticed() -> None:
    def run() -> None:
        with WriteBehind(Collector(fail_at=1)) as behind:
            behind.write(b"x")
            behind.write(b"x")

    with pytest.raises(OSError, match="full"):
        run()


def test_a_failing_writer_drops_what_is_left() -> None:
    target = Collector(delay_s=0.01)

    def run() -> None:
        with WriteBehind(target) as behind:
            for _ in range(3):
                behind.write(b"x")
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert len(target.chunks) < 3
    assert threads() == 1


@pytest.mark.parametrize("size", [1, 1000, CHUNK, 3 * CHUNK])
def test_reading_ahead_changes_nothing(size: int) -> None:
    data = DATA[: 200 * size]
    with ReadAhead(io.BytesIO(data)) as ahead:
        assert b"".join(iter(lambda: ahead.read(size), b"")) == data
        assert ahead.read(size) == b""
    with ReadAhead(io.BytesIO(data)) as ahead:
        assert ahead.read() == data


def test_a_small_stream_needs_no_thread() -> None:
    with ReadAhead(io.BytesIO(b"small")) as ahead:
        assert ahead.read(100) == b"small"
        assert threads() == 1


def test_reading_ahead_has_a_limit() -> None:
    source = Source(1000)
    with ReadAhead(source, depth=3) as ahead:
        ahead.read(3)
        ahead.read(3)
        time.sleep(0.02)
        assert source.given <= 6
    assert threads() == 1


def test_a_broken_source_is_noticed_in_its_place() -> None:
    with ReadAhead(Source(10, fail_at=4)) as ahead:
        assert [ahead.read(3) for _ in range(4)] == [b"001", b"002", b"003", b"004"]
        with pytest.raises(OSError, match="broken"):
            ahead.read(3)
