"""`type=image`: into our own store under its names and, if asked for, to registries.

Names are set last, the registry's before our own: who finds a name finds all of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import UsageError
from knarr.export.assemble import Placed
from knarr.export.make import make_image, makes_index, metadata
from knarr.export.options import ImageOptions, image_options
from knarr.export.vertex import Vertex
from knarr.image.copy import each
from knarr.record import replace
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.export.assemble import Assembled
    from knarr.export.context import ExportContext, Result
    from knarr.export.push import Push
    from knarr.export.trees import Layer
    from knarr.remote.repository import Registry

_NAMELESS = "<none>"  # kept under its digest: what was built is not lost, and `knarr images` shows it


def export_image(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Make the image, push it, keep it; returns its metadata."""
    options = image_options(export)
    if options.push and not options.layers.names:
        raise UsageError("nothing says where to push", hint="give the image a name: --tag REGISTRY/NAME:TAG")
    with Vertex(context.sink, "exporting to image") as vertex, ExitStack() as stack:
        push = stack.enter_context(_push(options, result, context, vertex, stack)) if options.push else None
        image, layers = make_image(
            options.layers, result, context, vertex, on_layer=push.layer if push is not None else None
        )
        placed = Placed("index", image.root)
        if image.attested:
            placed = _placed(image, layers, options, result, context, vertex, push)
        elif push is not None:
            push.finish(lambda host: (placed,), [layer.descriptor for layer in layers], image.configs)
        image = replace(image, root=placed.root)
        if options.store:
            _keep(image, layers, options, result, context, vertex)
    return metadata(image, options.layers, context)


def _placed(
    image: Assembled,
    layers: tuple[Layer, ...],
    options: ImageOptions,
    result: Result,
    context: ExportContext,
    vertex: Vertex,
    push: Push | None,
) -> Placed:
    """The image with its attestations where they are wanted, pushed if that is wanted, too."""
    from knarr.export.placement import AUTO, FILE, INDEX, NONE, Bears, Placing, write_files

    placing = Placing(image, options.layers, context.store, is_index=makes_index(result, context))
    if options.attest_store == FILE:
        write_files(image, context.store, options.attest_dest or ".")
    if push is None:
        placed = placing.at(INDEX if options.attest_store == AUTO else options.attest_store)
    else:
        bears = Bears(context.settings.root / "bears")
        automatic = options.attest_store == AUTO

        def places(host: str) -> Iterator[Placed]:
            return map(placing.at, bears.order(host) if automatic else (options.attest_store,))

        def took(host: str, placed: Placed) -> None:
            if automatic:
                bears.took(host, placed.place)
                if placed.place == NONE:
                    vertex.warn(f"{host} takes no attestations in any form: they were left out")

        blobs = [blob for one in image.attested for blob in one.blobs]
        placed = push.finish(places, [layer.descriptor for layer in layers], [*image.configs, *blobs], took)
    if options.store and placed.beside:
        names = map(Reference.parse, options.layers.names)
        placing.keep(placed, list(dict.fromkeys(f"{name.registry}/{name.repository}" for name in names)))
    return placed


def _push(options: ImageOptions, result: Result, context: ExportContext, vertex: Vertex, stack: ExitStack) -> Push:
    from knarr.export.push import Push

    names = [Reference.parse(name) for name in options.layers.names]
    if not options.push_by_digest:
        names = [name.tagged() for name in names]
    registry: Registry = context.registry()
    if options.insecure:
        registry = stack.enter_context(registry.trusting(*{name.registry for name in names}))
    return Push(names, registry, context.store, result.trees.fetcher(), context.scope, vertex)


def _keep(
    image: Assembled,
    layers: tuple[Layer, ...],
    options: ImageOptions,
    result: Result,
    context: ExportContext,
    vertex: Vertex,
) -> None:
    """Name the image in our own store; one that is not in a registry must be here whole."""
    if not options.push:
        _bring(layers, result, context, vertex)
    names = own_names(options, str(image.root.digest))
    for name in names:
        with vertex.phase(f"naming to {name}"):
            context.store.tag(image.root.bare(), name)
    if options.unpack:
        for found, record in zip(result.frontend.results, result.records, strict=True):
            with vertex.phase(f"unpacking to {found.platform}"), result.trees.mounted(record):
                pass  # mounting unpacks


def _bring(layers: tuple[Layer, ...], result: Result, context: ExportContext, vertex: Vertex) -> None:
    """Fetch the layers that are still in a registry only."""
    far = [layer.descriptor for layer in layers if not context.store.has(layer.descriptor)]
    if not far:
        return
    fetcher = result.trees.fetcher()
    with vertex.phase("fetching layers"):
        each(lambda blob: fetcher.open(blob).__exit__(None, None, None), far, scope=context.scope, jobs=4)


def own_names(options: ImageOptions, digest: str) -> list[str]:
    """The names an image gets in our store, by BuildKit's rules."""
    names = [str(Reference.parse(name).tagged()) for name in options.layers.names]
    canonical = options.name_canonical and bool(names)
    own = [form for name in names for form in ((name, f"{name}@{digest}") if canonical else (name,))]
    if options.dangling_prefix and (not names or not options.dangling_empty_only):
        own.append(f"{options.dangling_prefix}@{digest}")
    return own or [f"{_NAMELESS}@{digest}"]
