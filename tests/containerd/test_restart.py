"""A containerd that is killed while something is under way."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.containerd.client import Containerd, dial
from knarr.containerd.content import Content
from knarr.containerd.failure import Gone
from knarr.containerd.lease import leased
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK

from .conftest import LINGER, Running

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("c"))
    running.start()
    yield running
    running.stop()


class Deadly(io.BytesIO):
    """A source after whose fifth chunk containerd is killed."""

    def __init__(self, data: bytes, victim: Running) -> None:
        super().__init__(data)
        self.victim, self.count = victim, 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.count += 1
        if self.count == 5:
            self.victim.stop(signal.SIGKILL)
        return super().read(size)


def push(daemon: Containerd, blobs: dict[Descriptor, io.BytesIO]) -> None:
    with leased(daemon) as held:
        for blob, source in blobs.items():
            Content(held).push(blob, source)


def test_a_copy_that_it_did_not_survive_is_told_and_goes_on_when_it_is_back(mortal: Running) -> None:
    data = os.urandom(12 * CHUNK)
    blob = Descriptor(mediatype.OCI_LAYER, Digest.of(data), len(data))
    first = os.urandom(CHUNK)
    small = Descriptor(mediatype.OCI_LAYER, Digest.of(first), len(first))
    with dial(mortal.address) as daemon:
        daemon.make_namespace()
        with pytest.raises(Gone, match="went away") as caught:
            push(daemon, {small: io.BytesIO(first), blob: Deadly(data, mortal)})
        assert "run the same again" in caught.value.hint
    mortal.start()
    told: list[int] = []
    with dial(mortal.address) as daemon, leased(daemon) as held:
        assert Content(held).has(small)  # by the lease of the attempt that failed
        Content(held).push(blob, io.BytesIO(data), report=told.append)
        assert told[0] > CHUNK
        with Content(held).open(blob) as stream:
            assert stream.read() == data


def test_a_build_that_it_did_not_survive_says_so(mortal: Running, tmp_path: Path) -> None:
    with dial(mortal.address) as daemon:
        daemon.make_namespace()
        mortal.stop(signal.SIGKILL)
        with pytest.raises(Gone, match=mortal.address):
            daemon.namespaces()


def test_what_was_copied_is_there_whole_after_a_kill_and_a_collection(
    mortal: Running, knarr: Callable[..., str], busybox_layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERD_ADDRESS", mortal.address)
    name = "registry.example/busybox:1"
    knarr("copy", "-q", f"oci:{busybox_layout}", f"containerd://{name}")
    mortal.stop(signal.SIGKILL)
    mortal.start()
    mortal.collect()
    assert " complete " in mortal.ctr("images", "check", f"name=={name}")
    assert (
        mortal.ctr("run", "--rm", "--snapshotter", "native", name, "c1", "sh", "-c", "echo hello" + LINGER) == "hello\n"
    )
