"""Containers with a terminal, typed at from a real one."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.containers.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]


class Typist:
    """Somebody at a terminal of 33 rows and 101 columns in which a command runs."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.execve(argv[0], argv, environment)
        self.resize(33, 101)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def sees(self, text: str, *, seconds: float = 20) -> bool:
        """Whether `text` appears; what came before it is not looked at again."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.seen and time.monotonic() < deadline:
            self._read()
        found = text.encode() in self.seen
        self.seen = self.seen.partition(text.encode())[2] if found else self.seen
        return found

    def interrupts_until(self, text: str) -> bool:
        """Whether `text` appears after Ctrl-C: again and again, since an emulated shell may just be forking."""
        for _ in range(10):
            self.type("\x03")
            if self.sees(text, seconds=2):
                return True
        return False

    def status(self) -> int:
        """The command's exit status, when it has ended."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            pid, ended = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(ended)
            self._read()
        raise AssertionError(f"it does not end: {self.seen!r}")

    def _read(self) -> None:
        if select.select([self._terminal], [], [], 0.1)[0]:
            with suppress(OSError):  # EIO: nobody has the other end any more
                self.seen += os.read(self._terminal, 1 << 16)

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)


@contextmanager
def typing(environment: dict[str, str], *words: str) -> Iterator[Typist]:
    typist = Typist([sys.executable, "-m", "knarr", *words], {**environment, "TERM": "xterm"})
    try:
        yield typist
    finally:
        typist.close()


def test_a_terminal_of_another_platform_has_a_size_and_interrupts(
    environment: dict[str, str], knarr: Knarr, app: str
) -> None:
    words = ("run", "-it", "--rm", "--platform", "linux/arm64", app, "sh")
    with typing(environment, *words) as typist:
        assert typist.sees("# ")
        typist.type("stty size; uname -m; tty\r")
        assert typist.sees("33 101")
        assert typist.sees("aarch64")
        assert typist.sees("/dev/pts/0")
        typist.resize(20, 50)
        time.sleep(0.3)
        typist.type("stty size; echo rea''dy; sleep 100\r")
        assert typist.sees("20 50")
        assert typist.sees("ready")
        assert typist.interrupts_until("# ")  # the command was interrupted, not the shell
        typist.type("exit 7\r")
        assert typist.status() == 7
    assert knarr("ps", "-aq").stdout == ""


def test_a_terminal_is_left_and_come_back_to(environment: dict[str, str], knarr: Knarr, app: str) -> None:
    with typing(environment, "run", "-it", "--name", "left", app, "sh") as typist:
        assert typist.sees("# ")
        typist.type("\x10\x11")
        assert typist.status() == 0
    assert "Up" in knarr("ps", "--filter", "name=left").stdout
    with typing(environment, "attach", "left") as typist:
        typist.type("echo ba''ck\r")
        assert typist.sees("back")
        typist.type("exit 5\r")
        assert typist.status() == 5
    assert "Exited (5)" in knarr("ps", "-a").stdout
    assert "back" in knarr("logs", "left").stdout
    knarr("rm", "-v", "left")


def test_a_further_process_has_a_terminal_of_its_own(environment: dict[str, str], knarr: Knarr, app: str) -> None:
    knarr("run", "-d", "--name", "other", app, "sleep", "100")
    with typing(environment, "exec", "-it", "other", "sh") as typist:
        assert typist.sees("# ")
        typist.type("stty size; echo $TERM; exit 3\r")
        assert typist.sees("33 101")
        assert typist.sees("xterm")
        assert typist.status() == 3
    knarr("rm", "-f", "-v", "other")
