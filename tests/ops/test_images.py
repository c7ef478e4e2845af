"""Base images out of the own store and out of a real registry, as records that nobody unpacked yet."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import ContentError, DigestMismatch, KnarrError, NotFound
from knarr.ops.images import EMPTY, Images, chain_id
from knarr.ops.world import World
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform
from knarr.spec.reference import Reference

from .conftest import listing, make_world

pytestmark = pytest.mark.root

AMD64 = Platform("linux", "amd64")
ARM64 = Platform.parse("linux/arm64/v8")
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
APP = Reference.parse("app")


def layer(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("wh_", ".wh."))
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def image(world: World, *tars: bytes, arch: str = "amd64", diff_ids: list[str] | None = None) -> Descriptor:
    """An image in the store; `diff_ids` are lies when given."""
    layers = [world.store.put(LAYER, gzip.compress(tar, mtime=0)) for tar in tars]
    true_ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]
    config = {
        "os": "linux",
        "architecture": arch,
        "rootfs": {"type": "layers", "diff_ids": true_ids if diff_ids is None else diff_ids},
    }
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": world.store.put("application/vnd.oci.image.config.v1+json", encode(config)).to_json(),
        "layers": [one.to_json() for one in layers],
    }
    return world.store.put(MANIFEST, encode(document))


def index(world: World, **manifests: Descriptor) -> Descriptor:
    entries = [
        {**manifest.to_json(), "platform": {"os": "linux", "architecture": arch}}
        for arch, manifest in manifests.items()
    ]
    return world.store.put(INDEX, encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}))


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def local(world: World) -> Images:
    return Images(world.store, world.cache, world.registry, mode="local")


def test_an_image_of_the_own_store(overlay: World) -> None:
    top = image(overlay, layer(a="a", b="b"), layer(wh_a="", c="c"))
    overlay.store.tag(top, str(APP.tagged()))
    found = local(overlay).find(APP, AMD64)
    assert (found.digest, found.repository) == (top.digest, "")
    record = local(overlay).records(found)
    with overlay.trees.mounted(record) as root:
        assert listing(root) == {"b": "b", "c": "c"}


def test_the_manifest_for_the_platform(overlay: World) -> None:
    amd64, arm64 = image(overlay, layer(a="")), image(overlay, layer(b=""), arch="arm64")
    overlay.store.tag(index(overlay, amd64=amd64, arm64=arm64), str(APP.tagged()))
    images = local(overlay)
    assert images.find(APP, AMD64).manifest.descriptor.digest == amd64.digest
    assert images.find(APP, ARM64).manifest.descriptor.digest == arm64.digest
    with pytest.raises(NotFound) as caught:
        images.find(APP, Platform("linux", "s390x"))
    assert caught.value.context["image"] == "app"


def test_equal_layers_are_one_record_whatever_the_image(overlay: World) -> None:
    shared = layer(a="")
    images = local(overlay)
    tops = []
    for name, last in (("one", "1"), ("two", "2")):
        reference = Reference.parse(name)
        overlay.store.tag(image(overlay, shared, layer(b=last)), str(reference.tagged()))
        tops.append(overlay.cache.get(images.records(images.find(reference, AMD64))))
    assert tops[0] is not None
    assert tops[1] is not None
    assert tops[0].id != tops[1].id
    assert tops[0].parent == tops[1].parent == "layer:" + digest(shared)


def test_chain_ids() -> None:
    one, two = Digest.of(b"1"), Digest.of(b"2")
    assert chain_id("", one) == str(one)
    assert chain_id(str(one), two) == "sha256:" + hashlib.sha256(f"{one} {two}".encode()).hexdigest()


def test_an_image_without_layers_is_an_empty_record(overlay: World) -> None:
    overlay.store.tag(image(overlay), str(APP.tagged()))
    images = local(overlay)
    assert images.records(images.find(APP, AMD64)) == EMPTY


def test_nothing_is_unpacked_before_it_is_mounted(overlay: World) -> None:
    overlay.store.tag(image(overlay, layer(a="")), str(APP.tagged()))
    images = local(overlay)
    record = images.records(images.find(APP, AMD64))
    assert overlay.snapshotter.stat(record) is None
    with overlay.trees.mounted(record):
        pass
    found = overlay.cache.get(record)
    assert found is not None
    assert found.snapshot == record


def test_a_manifest_that_disagrees_with_its_config(overlay: World) -> None:
    overlay.store.tag(image(overlay, layer(a=""), diff_ids=[]), str(APP.tagged()))
    images = local(overlay)
    with pytest.raises(ContentError, match="its manifest has 1 layers, its config 0"):
        images.find(APP, AMD64)


def test_a_layer_that_is_not_what_the_config_says(overlay: World) -> None:
    overlay.store.tag(image(overlay, layer(a=""), diff_ids=[digest(b"another")]), str(APP.tagged()))
    images = local(overlay)
    record = images.records(images.find(APP, AMD64))
    with pytest.raises(DigestMismatch, match="unpacks to"), overlay.trees.mounted(record):
        pass
    assert overlay.snapshotter.stat(record) is None  # nothing half unpacked is taken for it later


def test_an_index_in_an_index_is_refused(overlay: World) -> None:
    inner = index(overlay, amd64=image(overlay, layer(a="")))
    overlay.store.tag(index(overlay, amd64=inner), str(APP.tagged()))
    with pytest.raises(ContentError, match="an index inside an index"):
        local(overlay).find(APP, AMD64)


def test_an_image_that_is_nowhere(overlay: World) -> None:
    with pytest.raises(KnarrError) as caught:
        local(overlay).find(Reference.parse("127.0.0.1:1/app"), AMD64)
    assert "127.0.0.1:1" in str(caught.value)


def test_a_digest_that_is_here_needs_no_registry(overlay: World) -> None:
    top = image(overlay, layer(a=""))
    reference = Reference.parse(f"127.0.0.1:1/app@{top.digest}")
    assert Images(overlay.store, overlay.cache, overlay.registry).find(reference, AMD64).digest == top.digest


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


# --- from a registry


@pytest.fixture
def far(tmp_path: Path, scope: Scope, bases: Any) -> Iterator[World]:
    """A world whose docker.io is the test's registry."""
    yield from make_world(tmp_path / "state", scope, "overlayfs", bases.hosts_dir)


@pytest.mark.system
def test_layers_stay_far_until_someone_needs_them(far: World) -> None:
    images = Images(far.store, far.cache, far.registry)
    found = images.find(Reference.parse("busybox"), AMD64)
    assert found.repository == "docker.io/library/busybox"
    record = images.records(found)
    (blob,) = found.manifest.layers
    assert far.store.find(blob.digest) is None
    with far.trees.mounted(record) as root:
        assert (root / "bin/busybox").exists()
    assert far.store.find(blob.digest) == blob.size
    assert images.tags == {"docker.io/library/busybox:latest": found.digest}
    assert not images.used_own_store


@pytest.mark.system
def test_a_tag_is_asked_for_once_in_a_build(far: World) -> None:
    images = Images(far.store, far.cache, far.registry)
    first = images.find(Reference.parse("busybox"), AMD64)
    assert images.find(Reference.parse("busybox"), AMD64) is first
    assert first.manifest.descriptor.digest != first.digest  # of an index
    assert images.find(Reference.parse("busybox:latest"), ARM64).digest == first.digest


@pytest.mark.system
def test_the_own_store_stands_in_for_a_registry_that_is_down(overlay: World) -> None:
    reference = Reference.parse("127.0.0.1:1/app")
    overlay.store.tag(image(overlay, layer(a="")), str(reference.tagged()))
    images = Images(overlay.store, overlay.cache, overlay.registry)
    assert images.find(reference, AMD64).repository == ""
    assert images.used_own_store
    with pytest.raises(KnarrError):
        Images(overlay.store, overlay.cache, overlay.registry, mode="pull").find(reference, AMD64)
