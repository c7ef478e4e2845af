"""A real containerd for each session of tests, with CRI, apart from the machine's own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.containerd.client import Containerd, dial

# Ends a script that ctr runs: on a busy machine it drops what a container says in its last moments (seen with 1.6.20).
LINGER = "; sleep 0.3"
PAUSE = "registry.example/pause:1"
_CONFIG = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{place}/sock"
[ttrpc]
address = "{place}/sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{place}/cni"
{more}
"""


class Running:
    """A containerd that runs, and `ctr` to ask it."""

    def __init__(self, place: Path, more: str = "") -> None:
        self.place = place
        self.address = f"{place}/sock"
        self._config = place / "config.toml"
        self._config.write_text(_CONFIG.format(place=place, pause=PAUSE, more=more))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self.place / "log", "ab") as out:
            argv = ["containerd", "--config", str(self._config)]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        deadline = time.monotonic() + 30
        while True:
            asked = subprocess.run(["ctr", "--address", self.address, "version"], capture_output=True, check=False)
            if not asked.returncode:
                return
            assert time.monotonic() < deadline, (self.place / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def ctr(self, *argv: str, namespace: str = "default") -> str:
        """What ctr prints; the test fails if ctr does."""
        command = ["ctr", "--address", self.address, "--namespace", namespace, *argv]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def collect(self, namespace: str = "default") -> None:
        """Have everything removed that nothing holds: a deletion that waits for the collector."""
        name = f"registry.example/nothing:{os.urandom(4).hex()}"
        with dial(self.address, namespace) as daemon:
            from knarr.containerd.images import Images

            images = Images(daemon)
            known = images.list()
            if known:
                images.set(name, known[0].target)
                images.remove(name, sync=True)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("ctd")
    found = Running(place)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def daemon(running: Running) -> Iterator[Containerd]:
    """A namespace of its own for a test."""
    with dial(running.address, f"test-{os.urandom(4).hex()}") as daemon:
        daemon.make_namespace()
        yield daemon
