"""A daemon as its users start it, and clients made from the protocol."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.service import OPTIONS, Caller
from knarr.daemon.control import CONTROL
from knarr.pb import control_pb2 as pb
from tests.buildkit.client import Client

_UP_S = 30.0


@dataclass
class Running:
    """A daemon's process, its state directory and its address."""

    process: subprocess.Popen[bytes]
    root: Path
    socket: Path
    log: Path

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(f"unix:{self.socket}", OPTIONS)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def running(
    root: Path, *flags: str, environ: Mapping[str, str] | None = None, command: str = "daemon"
) -> Iterator[Running]:
    """A daemon (or `knarr serve`, which has one) on the state directory `root`, stopped at the end."""
    root.mkdir(parents=True, exist_ok=True)
    place, log = root.parent / f"{root.name}.sock", root.parent / f"{root.name}.log"
    words = [sys.executable, "-m", "knarr", command, "--root", str(root), "--addr", f"unix://{place}", *flags]
    with log.open("ab") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env={**os.environ, **(environ or {})})
    found = Running(process, root, place, log)
    try:
        _wait(found)
        yield found
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(daemon: Running) -> None:
    deadline = time.monotonic() + _UP_S
    while time.monotonic() < deadline:
        assert daemon.process.poll() is None, daemon.log.read_text()
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(daemon.socket))
            except OSError:
                time.sleep(0.05)
            else:
                break  # and hang up at once, which must not hurt it
    while b"running server on" not in daemon.log.read_bytes():  # where else it listens stands there
        assert time.monotonic() < deadline, f"the daemon does not listen: {daemon.log.read_text()}"
        time.sleep(0.01)


class Builder:
    """A client with a context, which asks the daemon for builds."""

    def __init__(self, daemon: Running, client: Client, channel: grpc.Channel) -> None:
        self.daemon = daemon
        self.client = client
        self.channel = channel
        self.control = Caller(channel, CONTROL)
        self._count = 0

    def request(self, **more: Any) -> pb.SolveRequest:
        """A request for the Dockerfile that the client lends."""
        self._count += 1
        asked = {"Ref": f"{self.client.id}-{self._count}", "Session": self.client.id, "Frontend": "dockerfile.v0"}
        return pb.SolveRequest(**{**asked, **more})

    def build(self, **more: Any) -> Mapping[str, str]:
        """Build, and give what the exporters answer."""
        response: Mapping[str, str] = self.control.unary("Solve", self.request(**more), timeout_s=120).ExporterResponse
        return response

    def is_running(self, ref: str) -> bool:
        """Whether the daemon has a build `ref` under way."""
        asked = pb.BuildHistoryRequest(ActiveOnly=True, EarlyExit=True)
        return any(event.record.Ref == ref for event in self.control.stream("ListenBuildHistory", asked))

    def said(self, ref: str) -> pb.StatusResponse:
        """All that the build `ref` has told."""
        joined = pb.StatusResponse()
        for answer in self.control.stream("Status", pb.StatusRequest(Ref=ref)):
            joined.MergeFrom(answer)
        return joined


@pytest.fixture(scope="module")
def daemon(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("daemon") / "root"
    with running(root, "--debug", environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as found:
        yield found


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "hello").write_text("hello\n")
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY hello /\nRUN cat hello hello > /twice\n")
    return directory


Dockerfile = Callable[[str], None]


@pytest.fixture
def dockerfile(context: Path) -> Dockerfile:
    """Replaces the Dockerfile."""

    def write(text: str) -> None:
        (context / "Dockerfile").write_text(text)

    return write


@pytest.fixture
def builder(daemon: Running, context: Path, tmp_path: Path) -> Iterator[Builder]:
    id = os.urandom(8).hex()
    lent = {"context": context, "dockerfile": context}
    with daemon.channel() as channel, Client(channel, tmp_path, id=id, directories=lent) as client:
        yield Builder(daemon, client, channel)
