"""How commands end badly: what is said, and the exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_without_a_traceback(number: int, status: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "knarr", "build", "-"]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path)}
    waiting = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    time.sleep(1)  # it waits for a Dockerfile on standard input
    waiting.send_signal(number)
    _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == status
    assert "Traceback" not in said


def test_a_reader_that_goes_away_is_no_failure_to_talk_about() -> None:
    shell = f"{sys.executable} -m knarr build --help | true"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert done.stderr == ""
