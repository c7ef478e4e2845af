"""`knarr snapshotter serve` behind a real containerd, driven by ctr."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.containerd.client import dial
from knarr.containerd.failure import Gone
from knarr.containerd.snapshotter import ContainerdSnapshotter
from knarr.errors import KnarrError
from knarr.pb import snapshots_pb2 as pb

from .conftest import LINGER, Running

pytestmark = [pytest.mark.root, pytest.mark.system]


class Served:
    """A `knarr snapshotter serve`, and a containerd that has it as a plugin."""

    def __init__(self, place: Path, driver: str) -> None:
        self.driver, self._place = driver, place
        self._socket = place / "snapshotter"
        plugin = f'[proxy_plugins.knarr]\ntype = "snapshot"\naddress = "{self._socket}"\n'
        self.running = Running(place, plugin)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = ("snapshotter", "serve", "--address", self._socket, "--root", self._place / "snapshots")
        with open(self._place / "served", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "knarr", *map(str, words), "--snapshotter", self.driver],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while not self._socket.exists():
            assert time.monotonic() < deadline, (self._place / "served").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(30)

    def wait(self) -> None:
        """Until containerd has dialled again: it pauses between attempts."""
        deadline = time.monotonic() + 60
        while True:
            try:
                self.snapshots("ls")
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def snapshots(self, *words: str) -> str:
        return self.running.ctr("snapshots", "--snapshotter", "knarr", *words)

    def view(self, key: str, parent: str) -> None:
        """ctr gives a view no label that keeps it from the collector."""
        labels = {"containerd.io/gc.root": "test"}
        request = pb.ViewSnapshotRequest(snapshotter="knarr", key=key, parent=parent, labels=labels)
        with dial(self.running.address) as daemon:
            daemon.caller(pb.DESCRIPTOR.services_by_name["Snapshots"]).unary("View", request)

    def refused(self, *words: str) -> str:
        """What ctr says when it fails, which it must."""
        with pytest.raises(AssertionError) as caught:
            self.snapshots(*words)
        return str(caught.value)

    def kinds(self) -> dict[str, str]:
        rows = [line.split() for line in self.snapshots("ls").splitlines()[1:]]
        return {row[0]: row[-1] for row in rows}


@pytest.fixture(scope="module", params=["overlayfs", "native"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("s"), request.param)
    found.start()
    found.running.start()
    yield found
    found.running.stop()
    found.stop()


def test_a_container_of_an_image_runs_on_it_and_can_write(
    served: Served, knarr: Callable[..., str], busybox_layout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CONTAINERD_ADDRESS", served.running.address)
    knarr("copy", "-q", f"oci:{busybox_layout}", "containerd://registry.example/busybox:1")
    name = f"c-{os.urandom(3).hex()}"
    run = ("run", "--rm", "--snapshotter", "knarr", "registry.example/busybox:1", name)
    assert (
        served.running.ctr(*run, "sh", "-c", "rm /bin/vi; echo new > /f; cat /f; ls /bin/vi || true" + LINGER)
        == "new\n"
    )
    # Its own changes are gone with it.
    assert served.running.ctr(*run, "sh", "-c", "ls /bin/vi; ls /f || true" + LINGER) == "/bin/vi\n"


def test_snapshots_live_as_containerd_has_them_live(served: Served) -> None:
    served.snapshots("prepare", "--target", "/nowhere", "a1")
    assert "already exists" in served.refused("prepare", "a1")
    served.snapshots("commit", "a", "a1")
    served.snapshots("prepare", "b1", "a")
    served.view("v", "a")
    kinds = served.kinds()
    assert (kinds["a"], kinds["b1"], kinds["v"]) == ("Committed", "Active", "View")
    assert "failed precondition" in served.refused("rm", "a")
    assert "not found" in served.refused("prepare", "c", "nothing")
    served.snapshots("label", "a", "containerd.io/snapshot/x=y")
    assert '"containerd.io/snapshot/x": "y"' in served.snapshots("info", "a")
    served.snapshots("rm", "v", "b1")
    served.snapshots("rm", "a")
    assert not {"a", "b1", "v"} & served.kinds().keys()


def test_a_plugin_that_does_not_run_is_not_taken_for_containerd_itself(served: Served, tmp_path: Path) -> None:
    driver = ContainerdSnapshotter(tmp_path, served.running.address, "default", "knarr")
    served.stop()
    try:
        with pytest.raises(KnarrError, match="cannot reach a plugin of its own") as caught:
            _until_refused(lambda: driver.prepare("x", None))
        assert "snapshotter running" in caught.value.hint
    finally:
        driver.close()
        served.start()
        served.wait()


def _until_refused(act: Callable[[], object]) -> None:
    """A call that was under way when the plugin ended is told of in other words."""
    for _ in range(20):
        try:
            act()
        except Gone:
            time.sleep(0.1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_active_outlives_its_server(served: Served, how: signal.Signals) -> None:
    key = f"live-{how.name}"
    served.snapshots("prepare", key)
    mounts = served.snapshots("mounts", "/mnt", key)
    served.stop(how)
    served.start()
    served.wait()
    assert served.kinds()[key] == "Active"
    assert served.snapshots("mounts", "/mnt", key) == mounts
    served.snapshots("commit", f"done-{key}", key)
    served.snapshots("rm", f"done-{key}")
