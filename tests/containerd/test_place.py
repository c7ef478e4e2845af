from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from knarr.containerd.client import KUBERNETES, Containerd
from knarr.containerd.images import Images
from knarr.containerd.lease import leased
from knarr.containerd.place import ContainerdPlace
from knarr.image.layoutrepository import LayoutRepository
from knarr.image.wholecopy import copy_whole
from knarr.scope import Scope
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_manifest

from .conftest import Running

pytestmark = [pytest.mark.root, pytest.mark.system]
NAME = "registry.example/team/busybox"


def with_signature(layout: LayoutRepository, root: Descriptor) -> Descriptor:
    """Something that refers to `root`, and something that refers to that."""
    for _ in range(2):
        empty = Descriptor(mediatype.OCI_EMPTY, Digest.of(b"{}"), 2, data=b"{}")
        made = encode_manifest(empty, (empty,), artifact_type="application/x.signature", subject=root.bare())
        layout.push(empty.bare(), io.BytesIO(b"{}"))
        layout.push_manifest(made.descriptor.bare(), made.raw)
        root = made.descriptor
    return root


def test_an_image_and_its_referrers_go_there_and_come_back(
    running: Running, daemon: Containerd, busybox_layout: Path, tmp_path: Path
) -> None:
    source = LayoutRepository.create(tmp_path / "source")
    busybox = LayoutRepository.at(busybox_layout)
    with Scope() as scope:
        root = copy_whole(busybox, busybox.only(), source, tags=("1",), scope=scope).root
        last = with_signature(source, root)
        with leased(daemon, sync=True) as held:
            place = ContainerdPlace(held, NAME)
            there = copy_whole(source, root, place, tags=("1",), scope=scope)
            assert not there.outcome.lost
        running.collect(daemon.namespace)
        place = ContainerdPlace(daemon, NAME)
        assert list(place.tags()) == ["1"]
        back = LayoutRepository.create(tmp_path / "back")
        again = copy_whole(place, place.resolve("1"), back, tags=("1",), scope=scope)
    assert again.root.digest == root.digest
    assert last.digest in {node.descriptor.digest for node in again.outcome.kept}


def test_a_document_without_its_labels_counts_as_missing(daemon: Containerd, busybox_layout: Path) -> None:
    layout = LayoutRepository.at(busybox_layout)
    root = layout.only()
    with leased(daemon) as held:
        place = ContainerdPlace(held, NAME)
        with layout.open(root) as stream:
            place.content.push(root.bare(), stream)
        assert place.content.has(root)
        assert not place.has(root)


def test_images_of_kubernetes_are_labelled_for_it(running: Running, busybox_layout: Path, daemon: Containerd) -> None:
    layout = LayoutRepository.at(busybox_layout)
    name = f"{NAME}-{os.urandom(3).hex()}"
    system = daemon.within(KUBERNETES)
    system.make_namespace()
    with Scope() as scope, leased(system) as held:
        copy_whole(layout, layout.only(), ContainerdPlace(held, name), tags=("1",), scope=scope)
    assert Images(system).get(f"{name}:1").labels["io.cri-containerd.image"] == "managed"
    assert "io.cri-containerd.image" not in running.ctr("images", "ls", f"name=={name}:1")
