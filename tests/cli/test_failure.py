"""How commands end badly: what is said, and the exit status."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from knarr.cli import COMMANDS, main
from knarr.cli.failure import Terminated, report
from knarr.errors import Bug, Cancelled, KnarrError, UsageError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("no such thing", hint="try another"), 2, "error: no such thing\nhint: try another\n"),
        (KnarrError("it failed", context={"platform": "linux/arm64"}), 1, "error: it failed (platform linux/arm64)\n"),
        (Cancelled(), 130, "cancelled\n"),
        (KeyboardInterrupt(), 130, "cancelled\n"),
        (Terminated(), 143, ""),
        (SystemExit(2), 2, ""),
        (FileNotFoundError(2, "No such file or directory", "/x"), 1, "error: /x: No such file or directory\n"),
    ],
)
def test_what_is_said(capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str) -> None:
    assert report(error, ["build"]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), Bug("a wall fell down")])
def test_a_defect_leaves_its_details_in_a_file(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path))
    monkeypatch.delenv("KNARR_DEBUG", raising=False)
    assert report(error, ["build", "--build-arg", "PASSWORD=x"]) == 70
    said = capsys.readouterr().err
    (kept,) = (tmp_path / "crashes").iterdir()
    assert "Traceback" not in said
    assert str(kept) in said
    assert type(error).__name__ in kept.read_text()
    assert "PASSWORD" not in kept.read_text()


def test_debugging_shows_the_details(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNARR_DEBUG", "1")
    report(ZeroDivisionError("division by zero"), ["build"])
    assert "ZeroDivisionError: division by zero\nerror: " in capsys.readouterr().err


def test_a_command_written_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["biuld"]) == 2
    assert capsys.readouterr().err == "error: 'biuld' is not a knarr command\nhint: did you mean build?\n"


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr().out
    assert [name for name in COMMANDS if f"\n  {name} " not in shown] == []


@pytest.mark.parametrize("argv", [["--version"], ["version"], ["-v"]])
def test_the_version(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("knarr 0.")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_tells_about_itself(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "knarr", "help", name], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.lower().startswith(f"usage: knarr {name}")


# A shell that starts the tests in the background has them ignore SIGINT, and so would all that they start.
KNARR = ["env", "--default-signal=INT", sys.executable, "-m", "knarr"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_without_a_traceback(number: int, status: int, tmp_path: Path) -> None:
    env = {**os.environ, "KNARR_ROOT": str(tmp_path)}
    waiting = subprocess.Popen(
        [*KNARR, "build", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    assert waiting.stdin is not None
    waiting.stdin.write("FROM scratch\n")
    waiting.stdin.flush()
    while any(fcntl.ioctl(waiting.stdin, termios.FIONREAD, bytes(4))):  # then it has read that, and waits for more
        assert waiting.poll() is None
        time.sleep(0.01)
    waiting.send_signal(number)
    _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == status
    assert "Traceback" not in said


@pytest.mark.parametrize("moment", ["install", "keep"])
def test_an_interrupt_before_or_after_the_command_itself_is_one(moment: str) -> None:
    script = (
        "import os, signal; from knarr import cli; from knarr.startup import onefile\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"onefile.{moment} = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "cli.command()"
    )
    done = subprocess.run([sys.executable, "-c", script, "version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "cancelled\n")


@pytest.mark.parametrize(
    ("closed", "words", "status"),
    [
        ("<&-", "version", 0),
        (">&-", "version", 0),
        ("2>&-", "version", 0),
        ("<&- >&- 2>&-", "version", 0),
        ("<&-", "build -", 2),
        ("2>&-", "build --nonsense", 2),
    ],
)
def test_streams_that_are_closed_are_empty_ones(closed: str, words: str, status: int, tmp_path: Path) -> None:
    env = {**os.environ, "KNARR_ROOT": str(tmp_path)}
    shell = f"exec {sys.executable} -m knarr {words} {closed}"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, env=env)
    assert done.returncode == status, done.stderr
    assert ("Traceback" in done.stderr, (tmp_path / "crashes").exists()) == (False, False)


def test_a_reader_that_goes_away_is_no_failure_to_talk_about() -> None:
    shell = f"{sys.executable} -m knarr build --help | true"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert done.stderr == ""
