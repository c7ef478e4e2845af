"""Copies between two real registries: docker-registry 2.8, without the referrers API, and knarr's own, with it."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from knarr.image.layoutrepository import LayoutRepository
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_manifest
from knarr.spec.reference import Reference
from tests.conftest import free_port
from tests.image.universe import Universe
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401  # a fixture

pytestmark = pytest.mark.system


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def ours(tmp_path: Path, environ: None) -> Iterator[str]:
    """The address of a `knarr registry serve`, on a state directory of its own."""
    with serving(tmp_path) as address:
        yield address


@contextmanager
def serving(work: Path) -> Iterator[str]:
    """A `knarr registry serve` while the context lasts, its state in `work`; its address."""
    address = f"127.0.0.1:{free_port()}"
    env = {**os.environ, "KNARR_ROOT": str(work / "server")}
    command = [sys.executable, "-m", "knarr", "registry", "serve", "--listen", address]
    with (
        open(work / "server.log", "wb") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as server,
    ):
        try:
            deadline = time.monotonic() + 30
            while not listens(int(address.rpartition(":")[2])):
                assert server.poll() is None, (work / "server.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield address
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def client() -> Iterator[Registry]:
    with Registry(RegistrySettings(hosts_dirs=()), lambda _: Credentials()) as client:
        yield client


def run(*argv: str) -> None:
    subprocess.run([sys.executable, "-m", "knarr", *argv], check=True, stdout=subprocess.DEVNULL)


def test_there_and_back_between_a_registry_without_the_api_and_one_with_it(
    start_registry: StartRegistry,  # noqa: F811
    ours: str,
    client: Registry,
    tmp_path: Path,
) -> None:
    plain = start_registry().host
    universe = Universe()
    universe.push_to(client.repository(Reference.parse(f"{plain}/team/app")), "1")

    run("copy", "-q", f"{plain}/team/app:1", f"oci:{tmp_path}/layout:1")
    run("copy", "-q", f"oci:{tmp_path}/layout:1", f"{ours}/team/app:1")
    run("copy", "-q", f"{ours}/team/app:1", f"{plain}/team/back:1")

    for place in (f"{ours}/team/app", f"{plain}/team/back"):
        universe.assert_at(client.repository(Reference.parse(place)), "1")
    tags = set(client.repository(Reference.parse(f"{ours}/team/app")).tags())
    assert tags == {"1", *universe.tags}  # the API tells referrers: no list of them in a tag


def test_a_blob_whose_upload_was_killed_is_gone_on_with(ours: str, client: Registry, tmp_path: Path) -> None:
    data = os.urandom(96 << 20)
    layer = Descriptor(mediatype.OCI_LAYER, Digest("sha256:" + hashlib.sha256(data).hexdigest()), len(data))
    layout = LayoutRepository.create(tmp_path / "layout")
    config = Descriptor(mediatype.OCI_CONFIG, Digest.of(b"{}"), 2)
    for descriptor, content in ((layer, data), (config, b"{}")):
        layout.push(descriptor, io.BytesIO(content))
    manifest = encode_manifest(config, [layer])
    layout.push_manifest(manifest.descriptor, manifest.raw, tag="1")
    command = [sys.executable, "-m", "knarr", "copy", "-q", f"oci:{tmp_path}/layout:1", f"{ours}/app:1"]
    uploads = tmp_path / "server"

    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not any(path.is_file() and path.stat().st_size > 8 << 20 for path in uploads.rglob("*")):
        assert first.poll() is None, "it was done before it could be killed"
        time.sleep(0.001)
    first.kill()
    first.wait()
    (noted,) = (tmp_path / "state/uploads").iterdir()
    upload = noted.read_text()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    # That very upload was closed; one that was left alone would still answer 204.
    with pytest.raises(HTTPError) as caught:
        urlopen(upload, timeout=5)
    assert caught.value.code == 404
    caught.value.close()
    assert list((tmp_path / "state/uploads").iterdir()) == []
    assert client.repository(Reference.parse(f"{ours}/app")).resolve("1").digest == manifest.descriptor.digest
