"""Make snapshots of an image in containerd, so that a container of it starts at once.

containerd itself applies the layers, in its own process: what we send are descriptors
and mounts. A snapshot is named by its chain of layers, as every client of
containerd's names it, and a label of the image's config keeps the topmost.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from knarr.containerd import gclabels
from knarr.containerd.client import Containerd
from knarr.containerd.content import Content
from knarr.containerd.failure import AlreadyExists
from knarr.errors import ContentError, KnarrError, NotFound, Unsupported
from knarr.image.successors import read_config
from knarr.pb import diff_pb2, snapshots_pb2
from knarr.pb.containerdtypes_pb2 import Descriptor as Wire
from knarr.spec.config import chain_ids
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest

DEFAULT_SNAPSHOTTER = "overlayfs"
SNAPSHOTTER_PLUGIN = "io.containerd.snapshotter.v1"
_SNAPSHOTS = snapshots_pb2.DESCRIPTOR.services_by_name["Snapshots"]
_DIFF = diff_pb2.DESCRIPTOR.services_by_name["Diff"]


def need_snapshotter(daemon: Containerd, name: str) -> None:
    """See that containerd has the snapshotter `name`, and that it works there.

    Raises:
        NotFound: there is none of that name.
        Unsupported: there is, and containerd could not load it.
    """
    found = daemon.plugins(SNAPSHOTTER_PLUGIN)
    working = sorted(known for known, trouble in found.items() if not trouble)
    hint = f"it has: {', '.join(working)}"
    if name not in found:
        raise NotFound(f"the containerd at {daemon.address} has no snapshotter {name}", hint=hint)
    if found[name]:
        raise Unsupported(f"containerd could not load its snapshotter {name}: {found[name]}", hint=hint)


def unpack(
    daemon: Containerd,
    manifest: Manifest,
    snapshotter: str = DEFAULT_SNAPSHOTTER,
    *,
    on_layer: Callable[[Descriptor], None] | None = None,
) -> str:
    """Make a snapshot of each layer of `manifest`, whose content is there; returns the topmost's name.

    `daemon` should be under a lease: until the config's label is set nothing else keeps them.

    Raises:
        NotFound: a layer is not in containerd (any more).
        ContentError: the layers are not those that the config tells of.
        KnarrError: containerd could not apply one.
    """
    content = Content(daemon)
    config = read_config(content, manifest)
    if len(config.diff_ids) != len(manifest.layers):
        raise ContentError(
            f"{manifest.descriptor.digest}: {len(manifest.layers)} layers, but its config tells of"
            f" {len(config.diff_ids)}"
        )
    unpacking = _Unpacking(daemon, snapshotter)
    parent = ""
    for layer, diff_id, chain in zip(manifest.layers, config.diff_ids, chain_ids(config.diff_ids), strict=True):
        if not unpacking.has(chain):
            if on_layer is not None:
                on_layer(layer)
            unpacking.layer(layer, diff_id, parent, chain)
        content.label(layer.digest, {gclabels.UNCOMPRESSED: str(diff_id)})
        parent = chain
    if parent:
        content.label(manifest.config.digest, gclabels.of_snapshot(snapshotter, parent))
    return parent


class _Unpacking:
    """The calls for one snapshotter."""

    def __init__(self, daemon: Containerd, snapshotter: str) -> None:
        self._snapshots = daemon.caller(_SNAPSHOTS)
        self._diff = daemon.caller(_DIFF)
        self._name = snapshotter

    def has(self, name: str) -> bool:
        try:
            self._snapshots.unary("Stat", snapshots_pb2.StatSnapshotRequest(snapshotter=self._name, key=name))
        except NotFound:
            return False
        return True

    def layer(self, layer: Descriptor, diff_id: Digest, parent: str, chain: str) -> None:
        key = f"extract-{os.urandom(6).hex()} {chain}"
        labels = {"containerd.io/snapshot.ref": chain}
        request = snapshots_pb2.PrepareSnapshotRequest(snapshotter=self._name, key=key, parent=parent, labels=labels)
        try:
            mounts = self._snapshots.unary("Prepare", request).mounts
        except AlreadyExists:
            return  # a snapshotter that has the layer already: one that fetches by itself, or another client
        try:
            self._apply(layer, diff_id, mounts)
            commit = snapshots_pb2.CommitSnapshotRequest(snapshotter=self._name, name=chain, key=key)
            self._snapshots.unary("Commit", commit)
        except BaseException as error:
            with suppress(KnarrError):
                self._snapshots.unary("Remove", snapshots_pb2.RemoveSnapshotRequest(snapshotter=self._name, key=key))
            if isinstance(error, AlreadyExists):
                return  # another client was faster
            raise

    def _apply(self, layer: Descriptor, diff_id: Digest, mounts: Any) -> None:
        wire = Wire(media_type=layer.media_type, digest=str(layer.digest), size=layer.size)
        applied = self._diff.unary("Apply", diff_pb2.ApplyRequest(diff=wire, mounts=mounts)).applied
        if applied.digest != diff_id:
            raise ContentError(f"layer {layer.digest}: its content is {applied.digest}, the config says {diff_id}")
