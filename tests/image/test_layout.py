"""The OCI layout on disk."""

from __future__ import annotations

import io
import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import ContentError, DigestMismatch, NotFound, SizeMismatch
from knarr.image.copy import copy_graph
from knarr.image.layout import Layout, name_of, named
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import chunks

NAME = "registry.example/team/app:1"


def blob(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(data), len(data))


def test_a_name_leads_to_its_image(images: Any) -> None:
    root = images.manifest()

    images.layout.tag(root, NAME)

    assert images.layout.resolve(NAME) == root
    assert images.layout.resolve("1") == root
    with pytest.raises(NotFound):
        images.layout.resolve("registry.example/team/app:2")


def test_a_name_moves_and_others_stay(images: Any) -> None:
    first, second = images.manifest("linux/amd64"), images.manifest("linux/arm64")
    images.layout.tag(first, NAME)
    images.layout.tag(first, "registry.example/team/other:1")

    images.layout.tag(second, NAME)

    assert images.layout.resolve(NAME).digest == second.digest
    assert len(images.layout.entries()) == 2


def test_a_bare_tag_moves_and_leaves_images_alone(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path)
    one, two = (layout_document(layout, text) for text in (b'{"manifests":[]}', b'{"manifests":[], "a":1}'))
    layout.tag(one, "registry.example/app:cache")
    layout.retag(one, "cache")
    layout.retag(two, "cache")
    assert [entry.digest for entry in layout.entries()] == [one.digest, two.digest]
    assert layout.lends(two)
    assert not layout.lends(blob(b"nowhere"))


def layout_document(layout: Layout, raw: bytes) -> Descriptor:
    described = Descriptor("application/vnd.oci.image.index.v1+json", Digest.of(raw), len(raw))
    layout.push(described, io.BytesIO(raw))
    return described


def test_blobs_are_read_only_files_named_by_digest(tmp_path: Path, layout: Callable[[str], Layout]) -> None:
    layout("out").push(blob(b"hello"), io.BytesIO(b"hello"))

    path = tmp_path / "out" / "blobs" / "sha256" / blob(b"hello").digest.hex
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize(
    ("sent", "error"), [(b"hullo", DigestMismatch), (b"hell", SizeMismatch), (b"hello!", SizeMismatch)]
)
def test_wrong_content_leaves_nothing(tmp_path: Path, sent: bytes, error: type[Exception]) -> None:
    target = Layout.create(tmp_path / "out")

    with pytest.raises(error):
        target.push(blob(b"hello"), io.BytesIO(sent))

    assert not target.has(blob(b"hello"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_a_damaged_blob_is_noticed_when_read(tmp_path: Path) -> None:
    target = Layout.create(tmp_path / "out")
    target.push(blob(b"hello"), io.BytesIO(b"hello"))
    path = tmp_path / "out" / "blobs" / "sha256" / blob(b"hello").digest.hex
    path.chmod(0o644)
    path.write_bytes(b"hullo")

    with target.open(blob(b"hello")) as stream, pytest.raises(DigestMismatch):
        list(chunks(stream))


def test_a_directory_that_is_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="not an OCI layout"):
        Layout.at(tmp_path)


def test_another_layout_version_is_refused(tmp_path: Path) -> None:
    Layout.create(tmp_path)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')

    with pytest.raises(ContentError, match=r"2\.0\.0"):
        Layout.at(tmp_path)


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "1"}, NAME),
        ({"org.opencontainers.image.ref.name": "busybox:1"}, "docker.io/library/busybox:1"),
        ({"org.opencontainers.image.ref.name": "latest"}, ""),
        ({}, ""),
    ],
)
def test_names_of_other_writers_are_understood(annotations: dict[str, str], name: str) -> None:
    assert name_of(blob(b"").with_annotations(annotations)) == name


def test_names_are_written_as_containerd_writes_them() -> None:
    assert named(blob(b""), NAME).annotations == {
        "io.containerd.image.name": NAME,
        "org.opencontainers.image.ref.name": "1",
    }
    assert named(blob(b""), "").annotations == {}


@pytest.mark.system
def test_skopeo_and_umoci_accept_the_layout(tmp_path: Path, images: Any) -> None:
    root = images.two_platforms()
    target = Layout.create(tmp_path / "out")
    with Scope() as scope:
        copy_graph(images.layout, target, root, scope=scope)
    target.tag(root, "docker.io/library/app:1")

    skopeo = ["skopeo", "--override-arch", "arm64", "inspect", f"oci:{tmp_path}/out:1"]
    shown = json.loads(subprocess.run(skopeo, check=True, capture_output=True).stdout)
    listed = subprocess.run(["umoci", "ls", "--layout", str(tmp_path / "out")], check=True, capture_output=True)

    assert shown["Architecture"] == "arm64"
    assert listed.stdout.split() == [b"1"]
