"""Layers made here are unpacked by umoci, and layers made by umoci here, to the same trees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from knarr.content.store import Store
from knarr.layer.apply import apply
from knarr.layer.compress import Compression
from knarr.layer.decompress import open_compressed
from knarr.layer.diff import write_tree, write_upper
from knarr.layer.pack import Packed, pack
from knarr.spec import mediatype
from knarr.spec.config import ImageConfig, encode_config
from knarr.spec.manifest import decode, encode_manifest
from knarr.spec.platform import Platform

pytestmark = [pytest.mark.root, pytest.mark.system]

Look = Callable[[Path], dict[str, tuple[object, ...]]]
Overlay = Callable[[list[Path], Path], AbstractContextManager[Path]]


def base_tree(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"elf" * 100_000)
    os.chmod(root / "usr/bin/tool", 0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/other")
    (root / "bin").symlink_to("usr/bin")
    for name in ("var/gone", "var/opaque", "etc", "ä" * 60):
        (root / name).mkdir(parents=True)
        (root / name / ("long" * 30)).write_text(name)
    os.chown(root / "etc", 70_000, 3_000_000)
    os.mkfifo(root / "pipe")
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))


def change(merged: Path) -> None:
    shutil.rmtree(merged / "var/gone")
    shutil.rmtree(merged / "var/opaque")
    (merged / "var/opaque").mkdir()
    (merged / "var/opaque/new").write_text("new")
    (merged / "usr/bin/other").unlink()
    (merged / "usr/bin/other").mkdir()
    (merged / "etc" / ("long" * 30)).write_text("changed")
    os.utime(merged / "etc")  # else umoci's layer has the file without its directory


def cut_times(root: Path, *, back_s: int = 0) -> None:
    for folder, folders, files in os.walk(root, topdown=False):
        for name in folders + files:
            path = os.path.join(folder, name)
            seconds = int(os.lstat(path)[8]) - back_s
            os.utime(path, (seconds, seconds), follow_symlinks=False)


def publish(store: Store, layers: list[Packed]) -> None:
    """Make the store's directory an OCI layout with one image, `image`."""
    config = ImageConfig(Platform("linux", "amd64"), diff_ids=tuple(layer.diff_id for layer in layers))
    manifest = encode_manifest(
        store.put(mediatype.OCI_CONFIG, encode_config(config)), [layer.descriptor for layer in layers]
    )
    entry = store.put(manifest.media_type, manifest.raw).with_annotations(
        {"org.opencontainers.image.ref.name": "image"}
    )
    (store.root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry.to_json()]}))


def umoci(*arguments: str | Path) -> None:
    subprocess.run(["umoci", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("kind", ["gzip", "uncompressed"])
def test_umoci_unpacks_what_we_packed(root: Path, tmp_path: Path, look: Look, overlay: Overlay, kind: str) -> None:
    store = Store(tmp_path / "store")
    compression = Compression(kind)
    base_tree(root)
    with overlay([root], tmp_path / "upper") as merged:
        change(merged)
        wanted = look(merged)
    layers = [
        pack(lambda out: write_tree(root, out), store, compression=compression),
        pack(lambda out: write_upper(tmp_path / "upper", [root], out), store, compression=compression),
    ]
    publish(store, layers)
    umoci("unpack", "--image", f"{store.root}:image", tmp_path / "bundle")
    theirs = look(tmp_path / "bundle/rootfs")
    assert theirs == wanted
    (tmp_path / "ours").mkdir()
    for layer in layers:
        with store.open(layer.descriptor) as stream:
            apply(open_compressed(stream), tmp_path / "ours")
    assert look(tmp_path / "ours") == wanted


def test_we_unpack_what_umoci_packed(root: Path, tmp_path: Path, look: Look) -> None:
    store = Store(tmp_path / "store")
    base_tree(root)
    cut_times(root, back_s=100)  # umoci takes a directory for unchanged that was changed in the second it was made
    publish(store, [pack(lambda out: write_tree(root, out), store)])
    umoci("unpack", "--image", f"{store.root}:image", tmp_path / "bundle")
    change(tmp_path / "bundle/rootfs")
    cut_times(tmp_path / "bundle/rootfs")  # umoci rounds fractions up where layers elsewhere have them cut
    umoci("repack", "--image", f"{store.root}:image", tmp_path / "bundle")
    index = json.loads((store.root / "index.json").read_text())
    manifest = decode((store.root / "blobs/sha256" / index["manifests"][0]["digest"][7:]).read_bytes())
    (tmp_path / "ours").mkdir()
    for layer in manifest.successors[1:]:
        with store.open(layer) as stream:
            apply(open_compressed(stream), tmp_path / "ours")
    assert look(tmp_path / "ours") == look(tmp_path / "bundle/rootfs")
