# ruff: noqa: F811  # fixtures that are imported
"""A build for two platforms with what is said of it, mirrored between registries that bear different things.

Debian's docker-registry has no referrers API, knarr's own has it. Nothing is lost on
the way, whichever place the attestations have, and what runs keeps its digest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from knarr.image.successors import read_document
from knarr.remote.repository import Registry, Repository
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, Manifest
from knarr.spec.reference import Reference
from tests.interop.test_copyregistries import client, environ, ours  # noqa: F401
from tests.remote.conftest import StartRegistry, start_registry  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.system]

ARTIFACT = "application/vnd.docker.attestation.manifest.v1+json"


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
    argv = ("build", "-q", platforms, "--provenance=mode=max", *options, "-t", name, "--push", str(context))
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

    assert [len(statements) for statements in before.values()] == [1, 1]
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


@pytest.mark.parametrize("store", ["index", "referrers", "both", "tag"])
def test_imagetools_reads_every_place(
    store: str, start_registry: StartRegistry, environ: None, bases: Any, tmp_path: Path
) -> None:
    name = f"{start_registry().host}/team/app:1"
    build(name, bases, tmp_path, f"--attest-store={store}")

    found = json.loads(run("imagetools", "inspect", name, "--format", "{{json .Provenance}}"))

    assert set(found) == {"linux/amd64", "linux/arm64"}
    for one in found.values():
        assert one["SLSA"]["buildDefinition"]["externalParameters"]["request"]["frontend"] == "dockerfile.v0"


@pytest.mark.parametrize("store", ["auto", "index", "referrers", "both", "tag", "none"])
def test_every_place_lands_at_our_own_registry(
    store: str, ours: str, client: Registry, bases: Any, tmp_path: Path
) -> None:
    build(f"{ours}/team/app:1", bases, tmp_path, f"--attest-store={store}")

    found = said(client.repository(Reference.parse(f"{ours}/team/app")), "1")
    assert [bool(statements) for statements in found.values()] == [store not in ("none", "tag")] * 2
