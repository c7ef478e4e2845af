"""Write a shared cache where `--cache-to` says: to a registry, or into a directory.

The manifest is an image manifest whose config is the cache config, or an index over
the layers and the config (BuildKit's older form). Layers first, then the config, the
manifest and the name: who finds the name finds all of the cache.

Spec: BuildKit v0.33, cache/remotecache/export.go and its registry and local.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.sharedconfig import MEDIA_TYPE, encode_config
from knarr.cache.sharedgraph import CREATED, DIFF_ID
from knarr.export.clock import rfc3339
from knarr.export.push import siblings
from knarr.image.copy import copy_graph
from knarr.image.edit import in_words_of
from knarr.image.layout import Layout, blob_path
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import encode_index, encode_manifest
from knarr.spec.mediatype import ESTARGZ
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.content.target import Fetcher
    from knarr.export.cacheoptions import CacheTarget
    from knarr.export.cacherecords import Built
    from knarr.export.context import ExportContext
    from knarr.export.trees import Layer
    from knarr.export.vertex import Vertex

_JOBS = 4  # transfers at a time: BuildKit's maxRegistryConcurrency


def export_cache(
    target: CacheTarget,
    built: Built,
    fetcher: Fetcher,
    context: ExportContext,
    vertex: Vertex,
) -> Descriptor:
    """Put the cache where `target` says; returns its manifest.

    Raises:
        RegistryError, KnarrError: it cannot be written; the name has not moved then.
    """
    root = _documents(target, built, context, vertex)
    if target.kind == "registry":
        _push(target, root, built, fetcher, context, vertex)
    else:
        _write(target, root, fetcher, context, vertex)
    return root


def _documents(target: CacheTarget, built: Built, context: ExportContext, vertex: Vertex) -> Descriptor:
    """The manifest, with its config, in the own store."""
    raw = encode_config(built.config)
    with vertex.phase("preparing build cache for export"):
        config = context.store.put(MEDIA_TYPE, raw)
        by_digest = {layer.descriptor.digest: _described(layer, oci=target.oci) for layer in built.layers}
        order = sorted(by_digest)  # as the layers of the config are, each once
        blobs = [*(by_digest[digest] for digest in order), *built.mounts]
        if target.image_manifest:
            manifest = encode_manifest(config, blobs, oci=True)
            return context.store.put(manifest.media_type, manifest.raw)
        index = encode_index([*blobs, config], oci=target.oci)
        return context.store.put(index.media_type, index.raw)


def _described(layer: Layer, *, oci: bool) -> Descriptor:
    notes = {DIFF_ID: str(layer.diff_id)}
    if layer.created_ns:
        notes[CREATED] = rfc3339(layer.created_ns)
    return in_words_of(layer.descriptor.with_only(ESTARGZ), oci=oci).with_annotations(notes)


def _push(
    target: CacheTarget, root: Descriptor, built: Built, fetcher: Fetcher, context: ExportContext, vertex: Vertex
) -> None:
    reference = Reference.parse(target.ref).tagged()
    registry = context.registry()
    if target.insecure:
        registry = registry.trusting(reference.registry)
    repository = registry.repository(reference, scope=context.scope)
    known = {layer.descriptor.digest: layer.remote for layer in built.layers}
    copy_graph(
        fetcher,
        repository,
        root,
        scope=context.scope,
        jobs=_JOBS,
        watch=vertex.watch("writing layer"),
        mounts_of=siblings(repository.name, context.store.sources, known),
        below_only=True,
    )
    with vertex.phase(f"writing cache manifest {root.digest}"):
        repository.push_manifest(root, context.store.read(root), tag=reference.tag)
    context.store.sources.add(repository.name, [layer.descriptor.digest for layer in built.layers])


def _write(target: CacheTarget, root: Descriptor, fetcher: Fetcher, context: ExportContext, vertex: Vertex) -> None:
    if context.stores is not None:  # a directory of the caller's, who keeps its index
        lent = context.stores.store(f"local:{target.dest}")
        copy_graph(fetcher, lent, root, scope=context.scope, jobs=_JOBS, watch=vertex.watch("writing layer"))
        return
    place = Path(target.dest)
    layout = Layout.create(place)
    copy_graph(fetcher, layout, root, scope=context.scope, jobs=_JOBS, watch=vertex.watch("writing layer"))
    layout.retag(root, target.tag)
    if target.reset:
        sweep(layout, place)


def sweep(layout: Layout, place: Path) -> None:
    """Remove the blobs that no name of the directory leads to."""
    from knarr.image.successors import walk

    kept = {blob_path(blob.digest) for entry in layout.entries() for blob in walk(layout, entry)}
    for path in (place / "blobs").glob("*/*"):
        if str(path.relative_to(place)) not in kept:
            path.unlink()
    shutil.rmtree(place / "ingest", ignore_errors=True)
