"""Builds that are cut short, and what must be left of them: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Knarr = Any  # tests/engine/conftest.py
_PATIENCE_S = 30.0


class Running:
    """A `knarr` under way, and the processes below it."""

    def __init__(self, knarr: Knarr, argv: list[str], *, stdout: int | None = None) -> None:
        self._log = knarr.work / f"log-{time.monotonic_ns()}"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*knarr.prefix, sys.executable, "-m", "knarr", *argv],
                env=knarr.env | {"PYTHONFAULTHANDLER": "1"},
                cwd=knarr.work,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                start_new_session=True,
            )

    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Wait until the output has `text`; fails when the command ends before."""
        eventually(lambda: text in self.output() or self.process.poll() is not None, f"{text!r} in the output")
        assert text in self.output(), self.output()

    def end(self, number: int) -> tuple[int, float]:
        """Send the signal and wait; the exit status as a shell gives it, and the seconds it took."""
        started = time.monotonic()
        self.process.send_signal(number)
        return self.wait(), time.monotonic() - started

    def wait(self) -> int:
        try:
            status = self.process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # Python tells where each thread is
            self.process.wait()
            raise AssertionError(f"hangs:\n{self.output()}") from None
        return 128 - status if status < 0 else status


@contextmanager
def running(knarr: Knarr, *argv: str, stdout: int | None = None) -> Iterator[Running]:
    """Start `knarr ARGV`; whatever happens, it does not outlive the block."""
    started = Running(knarr, list(argv), stdout=stdout)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def eventually(holds: Any, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {_PATIENCE_S:.0f} s: {what}"
        time.sleep(0.01)


def using(place: Path) -> dict[int, str]:
    """The living processes that were started with `place` on their command line or have it among their mounts."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mounts = Path(f"/proc/{name}/mountinfo").read_text(errors="replace")
        except OSError:
            continue  # it ended just now
        if command and (str(place) in command or str(place) in mounts):
            found[int(name)] = command
    return found


def assert_nothing_left(knarr: Knarr) -> None:
    """No process, mount, container, claim, active snapshot or half-written blob; and the store is sound."""
    root = knarr.root
    assert using(root) == {}
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    for place in ("content/ingest", "flights", *(f"run/{name}" for name in _EMPTY)):
        assert _listed(root / place) == [], place
    for owners in root.glob("**/owners"):
        if "fs" not in owners.relative_to(root).parts:
            assert _listed(owners) == [], (owners, _listed(owners))
    found = knarr.run("doctor", "--store", check=False)
    assert found.returncode == 0, found.stdout
    assert "WRONG" not in found.stdout


_EMPTY = ("bundles", "mnt", "engines", "crun", "runc")


def _listed(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.is_dir() else []


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}
