"""Progress on a terminal: steps that ended scroll up and stay, steps that run are drawn anew below them.

A frame is the lines of the running part, cut to the width of the terminal. The
next write moves up over the last frame, erases it, prints what ended meanwhile
and the new frame: one write, so nothing flickers. Output of the steps themselves
is shown as its last lines only; the whole of it is in the plain mode, and the
end of it in the error when a step fails.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

from knarr.cli.progress.figures import seconds, size
from knarr.cli.progress.steps import Counter, Step, Steps
from knarr.progress import Event, Log, VertexDone

LOG_LINES = 6  # BUILDKIT_TTY_LOG_LINES of buildx
_CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])|[\x00-\x08\x0b-\x1f\x7f]")
_BAR = 20
_ESC = "\x1b["
_HIDE_CURSOR, _SHOW_CURSOR = f"{_ESC}?25l", f"{_ESC}?25h"
_COLOURS = {"done": "34", "cached": "36", "error": "31", "cancelled": "33", "faint": "2"}


class Tty:
    """A renderer (see `feed.Renderer`)."""

    for_people = True
    interval_s = 0.1
    idle_s = 0.1  # running times go on when nothing else happens

    def __init__(
        self, size: Callable[[], tuple[int, int]], *, colours: bool = True, log_lines: int = LOG_LINES
    ) -> None:
        """`size` gives the terminal's columns and lines; it is asked for every frame."""
        self.steps = Steps()
        self._size = size
        self._colours = colours
        self._log_lines = log_lines
        self._tails: dict[str, _Tail] = {}
        self._ended: dict[str, Step] = {}  # by id, since the last frame
        self._frame: list[int] = []  # the widths of the lines on the screen that are to be drawn over
        self._began_ns = 0

    def render(self, events: Iterable[Event], now_ns: int) -> bytes:
        """The bytes that bring the screen up to date at the time `now_ns`."""
        self._began_ns = self._began_ns or now_ns
        for event in events:
            step = self.steps.apply(event, now_ns)
            if isinstance(event, Log):
                self._tails.setdefault(step.id, _Tail(self._log_lines)).add(event.data)
            elif isinstance(event, VertexDone) or (step.implied and step.done_ns):
                self._ended[step.id] = step
        columns, rows = self._size()
        done = [self._finished(step, columns) for step in self._ended.values() if step.done_ns]
        self._ended.clear()
        frame = self._running(columns, rows, now_ns)
        out = self._erased(columns) + "".join(f"{line}\n" for line in (*done, *(text for text, _ in frame)))
        self._frame = [width for _, width in frame]
        return (_HIDE_CURSOR + out).encode(errors="replace")

    def close(self, now_ns: int) -> bytes:
        """Take the running part away and give the cursor back."""
        columns, _ = self._size()
        left = [step for step in self.steps.running() if not step.implied]
        lines = [self._finished(step, columns, now_ns) for step in left]
        return (self._erased(columns) + "".join(f"{line}\n" for line in lines) + _SHOW_CURSOR).encode(errors="replace")

    def _erased(self, columns: int) -> str:
        """Go up over the last frame and erase it; a line wider than a window made smaller takes several rows."""
        rows = sum(max(1, -(-width // max(1, columns))) for width in self._frame)
        self._frame = []
        return f"{_ESC}{rows}A\r{_ESC}J" if rows else ""

    def _finished(self, step: Step, columns: int, now_ns: int = 0) -> str:
        took = seconds((step.done_ns or now_ns) - step.started_ns)
        if step.cancelled or not step.done_ns:
            return self._coloured(_line(f" => CANCELED {step.name}", took, columns), "cancelled")
        if step.error:
            return self._coloured(_line(f" => ERROR {step.name}", took, columns), "error")
        if step.cached:
            return self._coloured(_line(f" => CACHED {step.name}", took, columns), "cached")
        return self._coloured(_line(f" => {step.name}", took, columns), "done")

    def _running(self, columns: int, rows: int, now_ns: int) -> list[tuple[str, int]]:
        """The lines of the running part with their widths, no more than the window holds."""
        room = max(1, rows - 2)
        steps = self.steps.running()
        if not steps:
            return []
        count, ended = len(self.steps.by_id), len(self.steps.by_id) - len(steps)
        plain = _line(f"[+] Building ({ended}/{count})", seconds(now_ns - self._began_ns), columns)
        lines = [(plain, _width(plain))]
        details = max(0, room - 1 - len(steps)) // len(steps)
        for step in steps[: room - 1]:
            text = _line(f" => {step.name}", seconds(now_ns - step.started_ns), columns)
            lines.append((text, _width(text)))
            lines.extend(self._detail(step, min(details, self._log_lines + 4), columns, now_ns))
        return lines

    def _detail(self, step: Step, most: int, columns: int, now_ns: int) -> list[tuple[str, int]]:
        """Counters and last lines of output of a running step."""
        open_counters = [counter for counter in step.counters.values() if not counter.done]
        texts = [_line(_counter(counter), _time(counter, now_ns), columns) for counter in open_counters]
        tail = self._tails.get(step.id)
        if tail is not None:
            texts += [_cut(f" => => # {line}", columns - 1) for line in tail.lines()]
        kept = texts[-most:] if most else []
        return [(self._coloured(text, "faint"), _width(text)) for text in kept]

    def _coloured(self, text: str, kind: str) -> str:
        return f"{_ESC}{_COLOURS[kind]}m{text}{_ESC}0m" if self._colours else text


class _Tail:
    """The last lines that a step wrote, as text that cannot move the cursor."""

    def __init__(self, most: int) -> None:
        self._lines: deque[bytes] = deque(maxlen=max(1, most))
        self._partial = b""
        self._most = most

    def add(self, data: bytes) -> None:
        *whole, rest = (self._partial + data).split(b"\n")
        self._lines.extend(whole)
        self._partial = rest[-4096:]

    def lines(self) -> list[str]:
        lines = [*self._lines, self._partial] if self._partial else list(self._lines)
        return [_clean(line) for line in lines[-self._most :]] if self._most else []


def _clean(line: bytes) -> str:
    # What comes after the last carriage return is what would be seen.
    visible = line.rstrip(b"\r").rpartition(b"\r")[2]
    return _CONTROL.sub(b"", visible).decode(errors="replace").expandtabs()


def _counter(counter: Counter) -> str:
    name = counter.id if len(counter.id) < 60 else f"{counter.id[:24]}…"
    if counter.total:
        filled = min(_BAR, _BAR * counter.current // counter.total)
        bar = "█" * filled + "░" * (_BAR - filled)
        return f" => => {name} {bar} {size(counter.current)} / {size(counter.total)}"
    return f" => => {name}" + (f" {size(counter.current)}" if counter.current else "")


def _time(counter: Counter, now_ns: int) -> str:
    return seconds(now_ns - counter.started_ns)


def _line(text: str, right: str, columns: int) -> str:
    """`text` to the left, `right` at the right edge, one column left free."""
    room = max(8, columns - 2 - len(right))
    text = _cut(text, room)
    return text + " " * (room - _width(text) + 1) + right


def _cut(text: str, room: int) -> str:
    """`text` in at most `room` columns."""
    if _width(text) <= room:
        return text
    used, kept = 0, []
    for char in text:
        used += _width(char)
        if used > room - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


def _width(text: str) -> int:
    """Columns that `text` takes: wide characters of East Asia two, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)
