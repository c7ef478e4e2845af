"""The live display, seen on a small terminal that is emulated here."""

from __future__ import annotations

import re

import pytest

from knarr.cli.progress.tty import Tty
from knarr.progress import Log, Status, VertexDone, VertexStarted

START = 1_700_000_000_000_000_000
_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|.", re.DOTALL)


def at(seconds: float) -> int:
    return START + round(seconds * 1e9)


class Screen:
    """A terminal that knows what the display uses: cursor up, erase below, colours, new lines."""

    def __init__(self) -> None:
        self.lines = [""]
        self.row = 0
        self.cursor_hidden = False

    def feed(self, data: bytes) -> None:
        for match in _TOKEN.finditer(data.decode()):
            parameter, command = match[1], match[2]
            if command == "A":
                self.row -= int(parameter)
                assert self.row >= 0, "the cursor left the screen"
            elif command == "J":
                del self.lines[self.row + 1 :]
                self.lines[self.row] = ""
            elif command in ("h", "l"):
                self.cursor_hidden = command == "l"
            elif command is None and match[0] == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif command is None and match[0] != "\r":
                self.lines[self.row] += match[0]

    @property
    def text(self) -> list[str]:
        return [line.rstrip() for line in self.lines if line]


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def tty() -> Tty:
    return Tty(lambda: (60, 12), colours=False)


def test_running_steps_are_drawn_anew_and_ended_ones_stay(screen: Screen, tty: Tty) -> None:
    screen.feed(tty.render([VertexStarted("a", "[1/2] FROM base", at_ns=at(0))], at(0)))
    screen.feed(
        tty.render([VertexDone("a", cached=True, at_ns=at(0)), VertexStarted("b", "RUN make", at_ns=at(0))], at(0))
    )
    screen.feed(tty.render([], at(1.5)))
    assert screen.cursor_hidden
    assert [" ".join(line.split()) for line in screen.text] == [
        "=> CACHED [1/2] FROM base 0.0s",
        "[+] Building (1/2) 1.5s",
        "=> RUN make 1.5s",
    ]
    screen.feed(tty.render([VertexDone("b", at_ns=at(2))], at(2)))
    screen.feed(tty.close(at(2)))
    assert [" ".join(line.split()) for line in screen.text] == ["=> CACHED [1/2] FROM base 0.0s", "=> RUN make 2.0s"]
    assert not screen.cursor_hidden


def test_the_last_lines_of_output_are_shown_without_control_characters(screen: Screen, tty: Tty) -> None:
    log = b"\x1b[31mred\x1b[0m\nold\rnew\n\x1b]0;title\x07" + b"".join(b"line %d\n" % n for n in range(8))
    screen.feed(tty.render([VertexStarted("a", "RUN x", at_ns=at(0)), Log("a", 1, log, at(0))], at(0)))
    assert screen.text[-6:] == [f" => => # line {n}" for n in range(2, 8)]


def test_a_rewritten_line_shows_what_was_written_last(screen: Screen, tty: Tty) -> None:
    screen.feed(tty.render([VertexStarted("a", "RUN x", at_ns=at(0)), Log("a", 1, b" 10%\r 20%\r", at(0))], at(0)))
    assert screen.text[-1] == " => => #  20%"


def test_bytes_have_a_bar(screen: Screen, tty: Tty) -> None:
    screen.feed(tty.render([Status("pull", "sha256:abc", 1_000_000, 2_000_000, False, at(0), at(0))], at(1)))
    assert "sha256:abc ██████████░░░░░░░░░░ 1.00MB" in screen.text[-1]


def test_nothing_is_wider_than_the_window_nor_higher(screen: Screen, tty: Tty) -> None:
    events = [VertexStarted(str(n), f"RUN {'長い' * 50}", at_ns=at(0)) for n in range(30)]
    screen.feed(tty.render(events, at(0)))
    widths = [sum(2 if ord(char) > 0x2E80 else 1 for char in line) for line in screen.text]
    assert max(widths) < 60
    assert len(screen.text) < 12


def test_a_smaller_window_is_erased_whole() -> None:
    size = [(80, 24)]
    tty = Tty(lambda: size[0], colours=False)
    tty.render([VertexStarted("a", "RUN " + "x" * 70, at_ns=at(0))], at(0))
    size[0] = (40, 24)
    assert tty.render([], at(1)).startswith(b"\x1b[?25l\x1b[4A\r\x1b[J")  # two lines of 79 columns take two rows each


def test_colours_only_when_wanted() -> None:
    done = [VertexStarted("a", "A", at_ns=at(0)), VertexDone("a", error="bad", at_ns=at(0))]
    assert b"\x1b[31m" in Tty(lambda: (60, 12)).render(done, at(0))
    assert b"\x1b[31m" not in Tty(lambda: (60, 12), colours=False).render(done, at(0))
