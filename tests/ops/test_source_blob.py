"""Blobs as sources: out of a registry and out of content that the caller lends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from knarr.config import Settings
from knarr.engine.engine import Engine
from knarr.errors import KnarrError
from knarr.image.layout import Layout
from knarr.llb.definition import vertex
from knarr.llb.ops import Edge, Graph, SourceOp
from knarr.ops.source_blob import parse
from knarr.progress import Silent
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import LocalSession

pytestmark = [pytest.mark.root, pytest.mark.system]


def layer_of(layout: Path) -> dict[str, Any]:
    """The first layer of the first image of a layout."""

    def read(descriptor: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((layout / "blobs" / descriptor["digest"].replace(":", "/")).read_text())
        return found

    document = json.loads((layout / "index.json").read_text())
    while "manifests" in document:
        document = read(document["manifests"][0])
    layer: dict[str, Any] = document["layers"][0]
    return layer


class Fetching:
    def __init__(self, bases: Any, state: Path) -> None:
        self.bases = bases
        environ = {"KNARR_ROOT": str(state), "KNARR_HOSTS_DIR": str(bases.hosts_dir)}
        self.engine = Engine(Settings.from_environment(environ))

    def files(self, identifier: str, **attrs: str) -> dict[str, tuple[bytes, int, int, int]]:
        """What is in the tree of a source: bytes, permissions, user and group by name."""
        return self.tree(SourceOp(identifier, {name.replace("_", "."): value for name, value in attrs.items()}))

    def tree(self, op: SourceOp) -> dict[str, tuple[bytes, int, int, int]]:
        source = vertex(op)
        session = LocalSession({}, {}, DockerConfig(()), content={"mine": Layout(self.bases.layout)})
        with self.engine.open(session, Silent()) as job:
            (record,) = job.solve([Graph({source.digest: source}, Edge(source.digest))], name="blob")
            with job.trees.mounted(record) as root:
                return {
                    path.name: (path.read_bytes(), path.stat().st_mode & 0o7777, path.stat().st_uid, path.stat().st_gid)
                    for path in root.iterdir()
                }


@pytest.fixture
def fetching(bases: Any, tmp_path: Path) -> Fetching:
    return Fetching(bases, tmp_path / "state")


def test_a_blob_is_a_file_named_after_its_digest(fetching: Fetching, bases: Any) -> None:
    layer = layer_of(bases.layout)
    data = (bases.layout / "blobs" / layer["digest"].replace(":", "/")).read_bytes()
    found = fetching.files(f"docker-image+blob://docker.io/library/busybox@{layer['digest']}")
    assert found == {layer["digest"].partition(":")[2]: (data, 0o600, 0, 0)}


def test_the_definition_says_how_the_file_is_to_be(fetching: Fetching, bases: Any) -> None:
    layer = layer_of(bases.layout)
    look = {"http_filename": "../layer.tar", "http_perm": "0644", "http_uid": "7", "http_gid": "8"}
    for name in ("docker-image+blob://docker.io/library/busybox", "oci-layout+blob://not/real"):
        (found,) = fetching.files(f"{name}@{layer['digest']}", oci_store="mine", **look).items()
        assert (found[0], found[1][1:]) == ("layer.tar", (0o644, 7, 8))
        assert len(found[1][0]) == layer["size"]


@pytest.mark.parametrize("scheme", ["docker-image+blob://docker.io/library/busybox", "oci-layout+blob://not/real"])
def test_a_blob_that_is_not_there_is_told(fetching: Fetching, scheme: str) -> None:
    with pytest.raises(KnarrError, match="no such blob in"):
        fetching.files(f"{scheme}@sha256:{'0' * 64}", oci_store="mine")


@pytest.mark.parametrize(
    ("identifier", "attrs", "message"),
    [
        ("docker-image+blob://busybox:latest", {}, "checksum required"),
        (f"oci-layout+blob://a/b@sha256:{'0' * 64}", {}, "requires store id"),
        (f"docker-image+blob://a/b@sha256:{'0' * 64}", {"http.perm": "rw"}, "not a number"),
    ],
)
def test_what_names_no_blob_is_refused(identifier: str, attrs: dict[str, str], message: str) -> None:
    with pytest.raises(KnarrError, match=message):
        parse(SourceOp(identifier, attrs))
