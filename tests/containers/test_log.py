"""The log of a container: what is read is what was written, and the last lines are lines."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from knarr.containers.log import Entry, LogReader, LogWriter, parse_stamp, stamp, tail


def test_bytes_of_any_kind_come_back(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.write(1, b"\xff\x00 \xe2\x82")
    writer.write(2, b"\xac\n")
    writer.close()
    assert [(entry.stream, entry.data) for entry in LogReader(tmp_path / "log")] == [
        (1, b"\xff\x00 \xe2\x82"),
        (2, b"\xac\n"),
    ]


def test_half_a_line_that_is_being_written_is_no_entry_yet(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log")
    writer.write(1, b"one\n")
    with open(tmp_path / "log", "ab") as file:
        file.write(b'{"log": "tw')
    reader = LogReader(tmp_path / "log")
    assert [entry.data for entry in reader] == [b"one\n"]
    with open(tmp_path / "log", "ab") as file:
        file.write(b'o\\n", "stream": "stdout", "time": "2026-11-24T19:00:00.5Z"}\nrubbish\n')
    rest = LogReader(tmp_path / "log", start=reader.at)
    assert [(entry.data, entry.time_ns % 10**9) for entry in rest] == [(b"two\n", 500_000_000)]


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert list(LogReader(tmp_path / "log")) == []


def test_what_a_full_disk_costs_is_told_when_there_is_room_again(tmp_path: Path) -> None:
    os.symlink("/dev/full", tmp_path / "log")
    writer = LogWriter(tmp_path / "log")
    writer.write(1, b"lost\n")
    room = os.open(tmp_path / "room", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(room, writer.descriptor)
    os.close(room)
    writer.write(1, b"kept\n")
    writer.close()
    assert [entry.data for entry in LogReader(tmp_path / "room")] == [
        b"[knarr: 5 bytes are missing here: the disk was full]\n",
        b"kept\n",
    ]


@given(st.integers(0, 4 * 10**18))
def test_times_come_back(ns: int) -> None:
    assert parse_stamp(stamp(ns)) == ns


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.text("ab\n", min_size=1).map(str.encode))), st.integers(0, 5))
def test_the_last_lines_are_those_of_each_stream_put_together(parts: list[tuple[int, bytes]], count: int) -> None:
    kept = tail([Entry(stream, data, 0) for stream, data in parts], count)
    for stream in (1, 2):
        whole = b"".join(data for number, data in parts if number == stream)
        shown = b"".join(entry.data for entry in kept if entry.stream == stream)
        assert whole.endswith(shown)
        assert shown == b"" or len(whole) == len(shown) or whole[: -len(shown)].endswith(b"\n")
    assert sum(len(entry.data.splitlines()) for entry in tail([Entry(1, b"a\nb\nc", 0)], 2)) == 2
