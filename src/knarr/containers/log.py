"""What a container wrote, with times: one JSON object a line, as docker's `json-file` has them.

An entry is what was written at once, so it may have several lines, or part of one. A disk that
is full costs lines of the log, not the container: what is missing is told when there is room again.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from knarr.record import record

_STREAMS = {1: "stdout", 2: "stderr"}
_NUMBERS = {name: number for number, name in _STREAMS.items()}
_AGAIN_S = 0.1  # between two looks for more


@record
class Entry:
    """Some bytes of stream 1 or 2, and when they came."""

    stream: int
    data: bytes
    time_ns: int


class LogWriter:
    """Appends to the log at `path`. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lost = 0

    def write(self, stream: int, data: bytes) -> None:
        """Keep `data`; never raises for want of room."""
        if self._lost and self._append(
            2, f"[knarr: {self._lost} bytes are missing here: the disk was full]\n".encode()
        ):
            self._lost = 0
        if self._lost or not self._append(stream, data):
            self._lost += len(data)

    def _append(self, stream: int, data: bytes) -> bool:
        text = data.decode(errors="surrogateescape")
        line = json.dumps({"log": text, "stream": _STREAMS[stream], "time": stamp(time.time_ns())}) + "\n"
        raw = line.encode()
        before = os.fstat(self.descriptor).st_size
        try:
            if os.write(self.descriptor, raw) == len(raw):
                return True
        except OSError:
            pass
        try:
            os.ftruncate(self.descriptor, before)  # no half line stays
        except OSError:
            return False
        return False

    def close(self) -> None:
        os.close(self.descriptor)


class LogReader:
    """The entries of the log at `path` from the byte `start` on; `at` is where the next one begins.

    With `follow`, also those that come as long as it gives True. What is no entry is left out.
    """

    def __init__(self, path: Path, *, follow: Callable[[], bool] | None = None, start: int = 0) -> None:
        self.at = start
        self._path = path
        self._follow = follow

    def __iter__(self) -> Iterator[Entry]:
        file = self._opened()
        if file is None:
            return
        with file:
            file.seek(self.at)
            rest = b""
            while True:
                goes_on = self._follow is not None and self._follow()  # before the look that may be the last one
                while chunk := file.read(1 << 18):
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        self.at += len(line) + 1
                        entry = _entry(line)
                        if entry is not None:
                            yield entry
                if not goes_on:
                    return
                time.sleep(_AGAIN_S)

    def _opened(self) -> BinaryIO | None:
        """The file, which a container that never ran has not."""
        while True:
            goes_on = self._follow is not None and self._follow()
            try:
                return open(self._path, "rb")
            except FileNotFoundError:
                if not goes_on:
                    return None
            time.sleep(_AGAIN_S)


def tail(entries: Iterable[Entry], lines: int) -> list[Entry]:
    """What makes the last `lines` lines of `entries`; one that is not complete yet counts."""
    kept: deque[list[Entry]] = deque(maxlen=lines)
    begun: dict[int, list[Entry]] = {}  # by stream: the line that is not complete
    for entry in entries:
        for part in entry.data.splitlines(keepends=True):
            line = begun.get(entry.stream)
            if line is None:
                line = begun[entry.stream] = []
                kept.append(line)
            line.append(Entry(entry.stream, part, entry.time_ns))
            if part.endswith(b"\n"):
                del begun[entry.stream]
    return [part for line in kept for part in line]


def _entry(line: bytes) -> Entry | None:
    try:
        told = json.loads(line)
        data = told["log"].encode(errors="surrogateescape")
        return Entry(_NUMBERS[told["stream"]], data, parse_stamp(told["time"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def stamp(ns: int) -> str:
    seconds, rest = divmod(ns, 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}Z"


def parse_stamp(text: str) -> int:
    """The time of a stamp, in ns."""
    import calendar

    seconds = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    return seconds * 10**9 + int((text[20:].rstrip("Z") or "0").ljust(9, "0")[:9])
