"""`type=oci` and `type=docker`: an OCI layout as a tar or a directory; docker's also has a `manifest.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import Unsupported
from knarr.export.clock import SECOND, rfc3339
from knarr.export.context import epoch_of
from knarr.export.make import attestations_for, make_image, makes_index, metadata
from knarr.export.options import ArchiveOptions, archive_options
from knarr.export.taken import opened_for
from knarr.export.vertex import Vertex
from knarr.image.copy import copy_graph
from knarr.image.layout import CREATED, REF_NAME, Layout, named
from knarr.image.save import NamedImage, save
from knarr.record import replace
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.export.assemble import Assembled
    from knarr.export.context import ExportContext, Result
    from knarr.spec.platform import Platform


def export_archive(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the archive or the directory; returns the image's metadata."""
    options = archive_options(export)
    if export.type == "docker":
        _check_single(options, result, context)
    platform = result.frontend.results[0].platform if export.type == "docker" else None
    with Vertex(context.sink, f"exporting to {export.type} image format") as vertex:
        image, _ = make_image(options.layers, result, context, vertex)
        image = _dated(image, options, result, context)
        if options.tar:
            _write_tar(export, image, options, result, context, vertex, platform)
        else:
            _write_directory(export, image, options, result, context, vertex)
    return metadata(image, options.layers, context)


def _check_single(options: ArchiveOptions, result: Result, context: ExportContext) -> None:
    """See that what comes of it is one manifest, all that docker's archive holds."""
    if makes_index(result, context):
        raise Unsupported(
            "type=docker cannot hold images of several platforms", hint="use type=oci, or build one --platform"
        )
    if attestations_for(options.layers, result, context):
        raise Unsupported(
            "type=docker cannot hold attestations",
            hint="use type=oci, or leave out --attest, --provenance and --sbom",
        )


def _dated(image: Assembled, options: ArchiveOptions, result: Result, context: ExportContext) -> Assembled:
    """The image with the time at which it was put into the archive on its descriptor, as BuildKit has it."""
    if CREATED in image.root.annotations:
        return image
    epoch = epoch_of(options.layers.epoch, context, *result.frontend.results)
    seconds = context.now_ns // SECOND if epoch is None else epoch
    return replace(image, root=image.root.with_annotations({CREATED: rfc3339(seconds * SECOND)}))


def _names(options: ArchiveOptions) -> tuple[str, ...]:
    return tuple(str(Reference.parse(name).tagged()) for name in options.layers.names)


def _write_tar(
    export: Export,
    image: Assembled,
    options: ArchiveOptions,
    result: Result,
    context: ExportContext,
    vertex: Vertex,
    platform: Platform | None,
) -> None:
    images = [NamedImage(image.root, _names(options))]
    about = {key: text for key, text in metadata(image, options.layers, context).items() if isinstance(text, str)}
    with opened_for(export, context, options.dest, about) as out, vertex.phase("sending tarball"):
        save(out, result.trees.fetcher(), images, scope=context.scope, docker_platform=platform)


def _write_directory(
    export: Export, image: Assembled, options: ArchiveOptions, result: Result, context: ExportContext, vertex: Vertex
) -> None:
    if export.taker is not None and context.stores is not None:  # the caller's, who keeps its index
        with vertex.phase("copying blobs to client"):
            store = context.stores.store("export")
            copy_graph(result.trees.fetcher(), store, image.root.bare(), scope=context.scope, sparse_target=True)
        return
    layout = Layout.create(Path(options.dest))
    with vertex.phase("writing layout"):
        copy_graph(result.trees.fetcher(), layout, image.root.bare(), scope=context.scope, sparse_target=True)
        for name in _names(options):
            layout.add(named(image.root, name))
        if not options.layers.names:
            layout.add(image.root.with_annotations({REF_NAME: "latest"}))  # BuildKit's word for the last one
