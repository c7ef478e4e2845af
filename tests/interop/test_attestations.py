# ruff: noqa: F811  # fixtures that are imported
"""A build for two platforms with what is said of it, mirrored between registries that bear different things.

Debian's docker-registry has no referrers API, knarr's own has it. Nothing is lost on
the way, whichever place the attestations have, and what runs keeps its digest.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from knarr.image.successors import read_document
from knarr.record import replace
from knarr.remote.repository import Registry, Repository
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, encode_manifest
from knarr.spec.reference import Reference
from tests.interop.test_copyregistries import client, environ, ours  # noqa: F401
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.system]

ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"
PROVENANCE, SBOM = "https://slsa.dev/provenance/v1", "https://spdx.dev/Document"


def run(*argv: str, **environ: str) -> str:
    words = [sys.executable, "-m", "knarr", *argv]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **environ}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def build(name: str, bases: Any, work: Path, *options: str) -> None:
    context = work / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM busybox\nRUN uname -m > /arch\nCOPY Dockerfile /\n")
    platforms = "--platform=linux/amd64,linux/arm64"
    argv = (
        "build",
        "-q",
        platforms,
        "--provenance=mode=max",
        "--sbom=true",
        *options,
        "-t",
        name,
        "--push",
        str(context),
    )
    run(*argv, KNARR_HOSTS_DIR=str(bases.hosts_dir))


def said(place: Repository, tag: str) -> dict[str, set[bytes]]:
    """Each platform's digest, and the statements about it that are found from the tag."""
    root = read_document(place, place.resolve(tag))
    assert isinstance(root, Index)
    found = {}
    for image in root.manifests:
        if image.platform is None or image.platform.os == "unknown":
            continue
        about = [e for e in root.manifests if e.annotations.get("vnd.docker.reference.digest") == image.digest]
        about += place.predecessors(image.bare(), ARTIFACT)
        found[str(image.digest)] = {raw for entry in about for raw in _statements(place, entry)}
    return found


def _statements(place: Repository, entry: Descriptor) -> list[bytes]:
    manifest = read_document(place, entry.bare())
    assert isinstance(manifest, Manifest)
    found = []
    for layer in manifest.layers:
        with place.open(layer) as stream:
            found.append(stream.read())
    return found


def kinds(statements: set[bytes]) -> set[str]:
    return {json.loads(raw)["predicateType"] for raw in statements}


@pytest.mark.parametrize("store", ["index", "referrers", "both"])
def test_there_and_back_nothing_is_lost(
    store: str, start_registry: StartRegistry, ours: str, client: Registry, bases: Any, tmp_path: Path
) -> None:
    plain = start_registry().host
    build(f"{plain}/team/app:1", bases, tmp_path, f"--attest-store={store}")

    def place(name: str) -> Repository:
        return client.repository(Reference.parse(name))

    before = said(place(f"{plain}/team/app"), "1")
    root = place(f"{plain}/team/app").resolve("1").digest
    run("copy", "-q", f"{plain}/team/app:1", f"{ours}/team/app:1")
    run("copy", "-q", f"{ours}/team/app:1", f"{plain}/team/back:1")

    assert [kinds(statements) for statements in before.values()] == [{PROVENANCE, SBOM}] * 2
    for name in (f"{ours}/team/app", f"{plain}/team/back"):
        assert said(place(name), "1") == before
        assert place(name).resolve("1").digest == root


def test_moving_attestations_on_the_way_and_back_changes_no_platform(
    start_registry: StartRegistry, ours: str, client: Registry, bases: Any, tmp_path: Path
) -> None:
    plain = start_registry().host
    build(f"{plain}/team/app:1", bases, tmp_path)
    before = said(client.repository(Reference.parse(f"{plain}/team/app")), "1")

    run("copy", "-q", "--attestations=referrers", f"{plain}/team/app:1", f"{ours}/team/app:1")
    run("copy", "-q", "--attestations=index", f"{ours}/team/app:1", f"{plain}/team/back:1")

    clean = client.repository(Reference.parse(f"{ours}/team/app"))
    root = read_document(clean, clean.resolve("1"))
    assert isinstance(root, Index)
    assert [str(entry.platform) for entry in root.manifests] == ["linux/amd64", "linux/arm64"]
    assert said(clean, "1") == before
    assert said(client.repository(Reference.parse(f"{plain}/team/back")), "1") == before


def test_attestations_under_tags_move_to_the_index_and_back(
    start_registry: StartRegistry, ours: str, client: Registry, bases: Any, tmp_path: Path
) -> None:
    plain = start_registry().host
    build(f"{plain}/team/app:1", bases, tmp_path, "--attest-store=tag")
    shown = "imagetools", "inspect", "--format", "{{json .Provenance}} {{json .SBOM}}"

    run("copy", "-q", "--attestations=index", f"{plain}/team/app:1", f"{ours}/team/app:1")
    run("copy", "-q", "--attestations=tag", f"{ours}/team/app:1", f"{plain}/team/back:1")

    assert [kinds(found) for found in said(client.repository(Reference.parse(f"{ours}/team/app")), "1").values()] == [
        {PROVENANCE, SBOM}
    ] * 2
    before, after = (client.repository(Reference.parse(f"{plain}/team/{name}")) for name in ("app", "back"))
    assert before.resolve("1").digest == after.resolve("1").digest
    assert set(before.tags()) == set(after.tags())
    names = (f"{plain}/team/app:1", f"{ours}/team/app:1", f"{plain}/team/back:1")
    assert len({run(*shown, name) for name in names}) == 1


@pytest.mark.parametrize("store", ["index", "referrers", "both", "tag"])
def test_imagetools_reads_every_place(
    store: str, start_registry: StartRegistry, environ: None, bases: Any, tmp_path: Path
) -> None:
    name = f"{start_registry().host}/team/app:1"
    build(name, bases, tmp_path, f"--attest-store={store}")

    found = json.loads(run("imagetools", "inspect", name, "--format", "{{json .Provenance}}"))
    bills = json.loads(run("imagetools", "inspect", name, "--format", "{{json .SBOM}}"))

    assert set(found) == set(bills) == {"linux/amd64", "linux/arm64"}
    assert {one["SPDX"]["spdxVersion"] for one in bills.values()} == {"SPDX-2.3"}
    for one in found.values():
        assert one["SLSA"]["buildDefinition"]["externalParameters"]["request"]["frontend"] == "dockerfile.v0"


@pytest.mark.parametrize("store", ["auto", "index", "referrers", "both", "tag", "none"])
def test_every_place_lands_at_our_own_registry(
    store: str, ours: str, client: Registry, bases: Any, tmp_path: Path
) -> None:
    build(f"{ours}/team/app:1", bases, tmp_path, f"--attest-store={store}")

    found = said(client.repository(Reference.parse(f"{ours}/team/app")), "1")
    assert [bool(statements) for statements in found.values()] == [store not in ("none", "tag")] * 2


@pytest.fixture
def journey(start_registry: StartRegistry, ours: str, bases: Any, tmp_path: Path, monkeypatch: Any) -> tuple[str, Path]:
    """An image of two platforms, attested and signed, that was at a registry with the API on its way to one without.

    Its name at the last, and where that keeps its blobs.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    first, last = start_registry().host, start_registry()
    build(f"{first}/team/app:1", bases, tmp_path)
    run("sign", "generate-key", "k")
    run("sign", "--key", "k.key", "--form", "tag", "--recursive", "--attestations", f"{first}/team/app:1")
    run("copy", "-q", f"{first}/team/app:1", f"{ours}/team/app:1")
    run("copy", "-q", f"{ours}/team/app:1", f"{last.host}/team/app:1")
    return f"{last.host}/team/app:1", last.storage / "docker/registry/v2/blobs"


VERIFY = ("verify", "--key", "k.pub", "--recursive")
VERIFY_SBOM = ("attest", "verify", "--key", "k.pub", "--type", "spdx", "--platform", "linux/arm64")


def test_one_flipped_byte_after_the_journey_and_nothing_is_verified(
    journey: tuple[str, Path], client: Registry
) -> None:
    name, blobs = journey
    place = client.repository(Reference.parse(name))
    root = read_document(place, place.resolve("1"))
    assert isinstance(root, Index)
    arm64 = root.manifests[1].digest
    assert run(*VERIFY, name).count("  verified\n") == 3
    run(*VERIFY_SBOM, name)

    for ending, command in ((".sig", VERIFY), (".att", VERIFY_SBOM)):
        tagged = read_document(place, place.resolve(f"sha256-{arm64.hex}{ending}"))
        assert isinstance(tagged, Manifest)
        for layer in tagged.layers:
            flip(blobs / "sha256" / layer.digest.hex[:2] / layer.digest.hex / "data")
        assert "cannot be read" in failing(*command, name)
    flip(blobs / "sha256" / arm64.hex[:2] / arm64.hex / "data")
    assert str(arm64) in failing(*VERIFY, name)


def test_a_registry_that_makes_its_digests_fit_a_flipped_byte_is_not_believed(
    journey: tuple[str, Path], client: Registry
) -> None:
    name, _ = journey
    place = client.repository(Reference.parse(name))
    root = read_document(place, place.resolve("1"))
    assert isinstance(root, Index)
    tag = f"sha256-{root.manifests[1].digest.hex}.att"
    tagged = read_document(place, place.resolve(tag))
    assert isinstance(tagged, Manifest)
    layers = []
    for layer in tagged.layers:
        with place.open(layer) as stream:
            envelope = json.loads(stream.read())
        payload = bytearray(base64.b64decode(envelope["payload"]))
        payload[payload.rindex(b"://") + 1] ^= 1  # within a text: it stays a statement
        envelope["payload"] = base64.b64encode(payload).decode()
        raw = json.dumps(envelope).encode()
        layers.append(replace(layer, digest=Digest.of(raw), size=len(raw)))
        place.push(layers[-1], io.BytesIO(raw))
    forged = encode_manifest(tagged.config, layers)
    place.push_manifest(forged.descriptor, forged.raw, tag=tag)

    assert "or the content was changed since" in failing(*VERIFY_SBOM, name)


def flip(blob: Path) -> None:
    """One bit of a file becomes another."""
    raw = bytearray(blob.read_bytes())
    raw[len(raw) // 2] ^= 1
    blob.write_bytes(raw)


def failing(*argv: str) -> str:
    """What a command says that must fail."""
    done = subprocess.run([sys.executable, "-m", "knarr", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stdout + done.stderr
