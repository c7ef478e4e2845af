"""A push into a registry on the same store sends no blob."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from knarr.content import sharing
from knarr.content.store import Store
from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings
from knarr.session.session import Credentials
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference

from .conftest import Client, Running, Start, digest

DATA = b"a layer" * 1000


class Unreadable(io.BytesIO):
    """Content that must not be read."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise AssertionError("the blob was sent")


def push(running: Running, store: Path | str, content: io.BytesIO) -> None:
    settings = RegistrySettings(store_dir=str(store))
    with Registry(settings, lambda host: Credentials()) as client:
        repository = client.repository(Reference.parse(f"127.0.0.1:{running.client.port}/team/app"))
        repository.push(Descriptor("", Digest(digest(DATA)), len(DATA)), content)


@pytest.fixture
def running(start: Start) -> Running:
    return start()


def test_a_blob_of_the_same_store_is_lent(running: Running) -> None:
    engine = Store(running.store.root)  # as a build writes: without waiting for the disk
    engine.put("", DATA)
    assert running.client("HEAD", f"/v2/team/app/blobs/{digest(DATA)}").status == 404
    push(running, engine.root, Unreadable())
    assert running.client("GET", f"/v2/team/app/blobs/{digest(DATA)}").body == DATA
    assert running.registry.parts.uploads.count() == 0


def test_another_store_sends(running: Running, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.put("", DATA)
    push(running, other.root, io.BytesIO(DATA))
    assert running.client("GET", f"/v2/team/app/blobs/{digest(DATA)}").body == DATA


def test_what_is_not_in_the_common_store_is_sent(running: Running) -> None:
    push(running, running.store.root, io.BytesIO(DATA))
    assert running.client("GET", f"/v2/team/app/blobs/{digest(DATA)}").body == DATA


def begin(client: Client) -> str:
    return str(client("POST", "/v2/team/app/blobs/uploads/").headers["Location"])


def test_a_proof_is_for_one_upload_and_one_digest(running: Running) -> None:
    client = running.client
    running.store.put("", DATA)
    running.store.put("", b"other")
    mine = sharing.Sharing(running.store.root)
    first, second = begin(client), begin(client)
    name = Digest(digest(DATA))
    proof = mine.proof(first.rpartition("/")[2], name)
    for place, wanted, shown in (
        (second, name, proof),
        (first, digest(b"other"), proof),
        (first, name, "00" * 32),
        (first, digest(b"absent"), mine.proof(first.rpartition("/")[2], Digest(digest(b"absent")))),
    ):
        answer = client("PUT", f"{place}?digest={wanted}", Knarr_Store_Proof=shown)
        assert (answer.status, answer.codes) == (400, ["DIGEST_INVALID"])
    assert client("HEAD", f"/v2/team/app/blobs/{name}").status == 404
    assert client("PUT", f"{first}?digest={name}", Knarr_Store_Proof=proof).status == 201


def test_a_stranger_cannot_tell_the_secret_from_what_is_announced(running: Running) -> None:
    announced = running.client("POST", "/v2/a/blobs/uploads/").headers[sharing.ANNOUNCED]
    key = running.store.root / "store.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert announced not in key.read_bytes().hex()
    assert sharing.lent(str(running.store.root), "another", "x", Digest(digest(DATA))) == ""


def test_knarr_push_into_the_server_of_the_same_state_directory_moves_nothing(start: Start, tmp_path: Path) -> None:
    running = start(root=tmp_path / "state/content")
    (tmp_path / "context").mkdir()
    (tmp_path / "context/file").write_bytes(b"x" * 100_000)
    (tmp_path / "context/Dockerfile").write_text("FROM scratch\nCOPY file /\n")
    name = f"127.0.0.1:{running.client.port}/team/app:v1"
    env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state"), "DOCKER_CONFIG": str(tmp_path)}

    def knarr(*words: str) -> None:
        command = [sys.executable, "-m", "knarr", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    knarr("build", "--provenance=false", "-t", name, str(tmp_path / "context"))
    before = {file.name: file.stat().st_ino for file in (tmp_path / "state/content/blobs/sha256").iterdir()}
    knarr("push", name)

    pulled = running.client("GET", "/v2/team/app/manifests/v1")
    document = pulled.json
    for item in (document["config"], *document["layers"]):
        assert running.client("GET", f"/v2/team/app/blobs/{item['digest']}").status == 200
        file = tmp_path / "state/content/blobs/sha256" / item["digest"][7:]
        assert file.stat().st_ino == before[file.name]
