"""Uploads that a later process goes on with: after a failure, after a kill, and beside another process."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knarr.errors import DigestMismatch, RegistryError
from knarr.image.layoutrepository import LayoutRepository
from knarr.record import replace
from knarr.remote.repository import Repository
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.remote.uploadjournal import entry
from knarr.remote.url import parse
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_manifest
from knarr.spec.reference import Reference

from .conftest import Connect, StartRegistry
from .fakeregistry import FakeRegistry
from .material import CONFIG, LAYER, Once, blob


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    once = RetryBudget(attempts=1, first_wait_s=0.01)
    return RegistrySettings(
        hosts_dirs=(), whole_bytes=1000, chunk_bytes=300_000, retry=once, uploads_dir=str(tmp_path / "uploads")
    )


@pytest.fixture
def broken(fake: FakeRegistry, connect: Connect, settings: RegistrySettings) -> Repository:
    """A repository whose last client was cut off after 400,000 bytes; a new client of it."""
    fake.fail("PUT", "/uploads/", swallow=400_000)
    with pytest.raises(RegistryError):
        connect(settings).repository(Reference.parse(f"{fake.host}/app")).push(blob(LAYER), io.BytesIO(LAYER))
    fake.seen.clear()
    return connect(settings).repository(Reference.parse(f"{fake.host}/app"))


def test_a_later_client_sends_only_the_rest(fake: FakeRegistry, broken: Repository, tmp_path: Path) -> None:
    broken.push(blob(LAYER), io.BytesIO(LAYER))

    assert fake.blobs["app", str(blob(LAYER).digest)] == LAYER
    assert [seen.method for seen in fake.seen] == ["HEAD", "GET", "PATCH", "PATCH", "PATCH", "PUT"]
    assert fake.requests("PATCH")[0].headers["content-range"] == "400000-699999"
    assert os.listdir(tmp_path / "uploads") == []


def test_content_that_cannot_be_rewound_is_read_up_to_there(fake: FakeRegistry, broken: Repository) -> None:
    broken.push(blob(LAYER), Once(LAYER))

    assert fake.blobs["app", str(blob(LAYER).digest)] == LAYER
    assert fake.requests("POST") == []


def test_a_registry_is_asked_for_the_rest_only(fake: FakeRegistry, broken: Repository, connect: Connect) -> None:
    with FakeRegistry() as other:
        other.add_blob("base", LAYER)
        source = connect().repository(Reference.parse(f"{other.host}/base"))
        with source.open(blob(LAYER)) as stream:
            broken.push(blob(LAYER), stream)

        assert fake.blobs["app", str(blob(LAYER).digest)] == LAYER
        assert [seen.headers.get("range") for seen in other.requests("GET")] == [None, "bytes=400000-"]


def test_an_upload_that_the_registry_forgot_is_begun_again(fake: FakeRegistry, broken: Repository) -> None:
    fake.uploads.clear()

    broken.push(blob(LAYER), io.BytesIO(LAYER))

    assert fake.blobs["app", str(blob(LAYER).digest)] == LAYER


def test_wrong_content_leaves_nothing_to_go_on_with(
    fake: FakeRegistry, connect: Connect, settings: RegistrySettings, tmp_path: Path
) -> None:
    repository = connect(settings).repository(Reference.parse(f"{fake.host}/app"))

    with pytest.raises(DigestMismatch):
        repository.push(blob(LAYER), io.BytesIO(LAYER[:-1] + b"x"))

    assert os.listdir(tmp_path / "uploads") == []
    assert fake.uploads == {}


def test_two_at_once_each_have_an_upload_of_their_own(
    fake: FakeRegistry, connect: Connect, settings: RegistrySettings, tmp_path: Path
) -> None:
    key = (fake.url, "/v2", "app", str(blob(LAYER).digest))
    with entry(str(tmp_path / "uploads"), *key) as held:
        assert held is not None
        held.note(parse(f"{fake.url}/v2/app/blobs/uploads/of-another"))
        connect(settings).repository(Reference.parse(f"{fake.host}/app")).push(blob(LAYER), io.BytesIO(LAYER))

    assert len(fake.requests("POST")) == 1
    assert fake.requests("GET", "of-another") == []


def test_a_directory_that_cannot_be_written_costs_only_the_note(
    fake: FakeRegistry, connect: Connect, settings: RegistrySettings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    elsewhere = replace(settings, uploads_dir=str(tmp_path / "file" / "uploads"))

    connect(elsewhere).repository(Reference.parse(f"{fake.host}/app")).push(blob(LAYER), io.BytesIO(LAYER))

    assert fake.blobs["app", str(blob(LAYER).digest)] == LAYER


@pytest.mark.system
def test_a_copy_that_was_killed_can_be_made_again_at_a_registry_that_gave_the_upload_up(
    start_registry: StartRegistry, connect: Connect, tmp_path: Path
) -> None:
    # distribution 2.8 drops an upload whose last request broke off: it compares the length with its signed state.
    registry = start_registry()
    large = tmp_path / "large"
    with open(large, "wb") as file:
        for _ in range(160):
            file.write(os.urandom(1 << 20))
    layout = LayoutRepository.create(tmp_path / "layout")
    with open(large, "rb") as file:
        digest = Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    layer = Descriptor(mediatype.OCI_LAYER, digest, os.path.getsize(large))
    with open(large, "rb") as file:
        layout.push(layer, file)
    config = blob(CONFIG, mediatype.OCI_CONFIG)
    layout.push(config, io.BytesIO(CONFIG))
    manifest = encode_manifest(config, [layer])
    layout.push_manifest(manifest.descriptor, manifest.raw, tag="1")
    command = [sys.executable, "-m", "knarr", "copy", "-q", f"oci:{tmp_path}/layout:1", f"{registry.host}/app:1"]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    uploads = registry.storage / "docker/registry/v2/repositories/app/_uploads"

    first = subprocess.Popen(command, env=env)
    while not any(path.stat().st_size > 4 << 20 for path in uploads.glob("*/data")):
        assert first.poll() is None, "it was done before it could be killed"
        time.sleep(0.001)
    first.send_signal(signal.SIGKILL)
    first.wait()
    subprocess.run(command, env=env, check=True)

    there = connect().repository(Reference.parse(f"{registry.host}/app"))
    assert there.resolve("1").digest == manifest.descriptor.digest
    assert there.has(layer)
    assert os.listdir(tmp_path / "state" / "uploads") == []
