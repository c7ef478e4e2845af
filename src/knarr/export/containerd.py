"""`type=containerd`: into a containerd's content store, under its names, so that ctr, nerdctl and Kubernetes run it.

Everything that arrives is held by a lease until the names are set, which is last: who
finds a name finds all of the image, and containerd's collector keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.containerd.client import dial
from knarr.containerd.images import PINNED
from knarr.containerd.lease import leased
from knarr.containerd.place import ContainerdPlace
from knarr.containerd.unpack import DEFAULT_SNAPSHOTTER, need_snapshotter, unpack
from knarr.errors import NotFound, UsageError
from knarr.export.make import make_image, metadata
from knarr.export.options import ContainerdOptions, containerd_options
from knarr.export.vertex import Vertex
from knarr.image.copy import copy_graph
from knarr.image.select import manifest_for
from knarr.spec.platform import host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.containerd.client import Containerd
    from knarr.export.assemble import Assembled
    from knarr.export.context import ExportContext, Result
    from knarr.spec.digest import Digest

_JOBS = 4  # blobs at a time: they go to one disk


def export_containerd(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Make the image, put it into containerd, name it there; returns its metadata."""
    options = containerd_options(export)
    if not options.layers.names:
        raise UsageError("an image in containerd needs a name", hint="give it one: --tag NAME:TAG")
    usual = context.settings.containerd_usual
    with (
        Vertex(context.sink, "exporting to containerd") as vertex,
        dial(options.address or usual.address, options.namespace or usual.namespace) as daemon,
    ):
        daemon.make_namespace()
        if options.unpack:
            need_snapshotter(daemon, options.snapshotter or DEFAULT_SNAPSHOTTER)
        image, _ = make_image(options.layers, result, context, vertex)
        with leased(daemon) as held:
            _put(held, image, options, result, context, vertex)
    return metadata(image, options.layers, context)


def _put(
    daemon: Containerd,
    image: Assembled,
    options: ContainerdOptions,
    result: Result,
    context: ExportContext,
    vertex: Vertex,
) -> None:
    labels = PINNED if options.pinned else {}
    place = ContainerdPlace(daemon, labels=labels, source_of=_source_of(context))
    with vertex.phase(f"sending to namespace {daemon.namespace}"):
        copy_graph(
            result.trees.fetcher(),
            place,
            image.root.bare(),
            scope=context.scope,
            jobs=_JOBS,
            watch=vertex.watch("sending"),
            sparse_target=True,
        )
    if options.unpack:
        _unpack(place, daemon, image, options.snapshotter or DEFAULT_SNAPSHOTTER, vertex)
    for name in options.layers.names:
        full = str(Reference.parse(name).tagged())
        with vertex.phase(f"naming to {full}"):
            place.tag(image.root, full)


def _unpack(place: ContainerdPlace, daemon: Containerd, image: Assembled, snapshotter: str, vertex: Vertex) -> None:
    """Unpack what this machine runs; of an image for others only, nothing."""
    platform = host_platform()
    try:
        _, manifest = manifest_for(place, image.root, platform)
    except NotFound:
        vertex.warn(f"nothing is unpacked: the image has nothing for {platform}")
        return
    with vertex.phase(f"unpacking with {snapshotter}"):
        unpack(daemon, manifest, snapshotter)


def _source_of(context: ExportContext) -> Callable[[Digest], str]:
    def source_of(digest: Digest) -> str:
        return next(iter(context.store.sources.of(digest)), "")

    return source_of
