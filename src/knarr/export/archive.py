"""The `oci` and `docker` outputs: an OCI layout as a tar or a directory, with Docker's manifest.json for `docker`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from knarr.builder import Export
from knarr.errors import UsageError
from knarr.export.assemble import Image, format_time, root_annotations
from knarr.export.context import ExportContext, Result, status, telling
from knarr.export.image import keep, make_image, metadata
from knarr.export.options import ImageOptions, image_options
from knarr.image.copy import copy_graph
from knarr.image.layout import CREATED, Layout, named
from knarr.image.save import NamedImage, save
from knarr.spec.descriptor import Descriptor
from knarr.spec.platform import host_platform


def export_archive(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the archive or the layout; returns the response metadata."""
    options = image_options(export)
    docker = export.type == "docker"
    if docker and len(result.records) > 1:
        raise UsageError(
            "type=docker cannot hold images of several platforms", hint="use type=oci, or build one --platform"
        )
    if not options.tar and options.dest in ("", "-"):
        raise UsageError(f"--output type={export.type},tar=false needs dest=DIRECTORY")
    with telling(context, f"exporting to {export.type} image format") as vertex:
        image = make_image(options, result, context, vertex)
        keep(image, context)
        if options.tar:
            with status(context, vertex, "sending tarball"), opened(options.dest) as out:
                _write(out, image, options, result, context, docker=docker)
        else:
            with status(context, vertex, "writing layout"):
                _lay_out(image, options, result, context)
    return metadata(image, options)


def _write(
    out: BinaryIO, image: Image, options: ImageOptions, result: Result, context: ExportContext, *, docker: bool
) -> None:
    named_image = NamedImage(_entry(image, options, context), tuple(str(name) for name in options.names))
    platform = (image.images[0].platform if docker else None) or (host_platform() if docker else None)
    save(out, result.trees.fetcher(), [named_image], scope=context.scope, docker_platform=platform)


def _lay_out(image: Image, options: ImageOptions, result: Result, context: ExportContext) -> None:
    layout = Layout.create(Path(options.dest))
    copy_graph(result.trees.fetcher(), layout, image.root, scope=context.scope)
    entry = _entry(image, options, context)
    for name in [str(name) for name in options.names] or [""]:
        layout.add(named(entry, name))


def _entry(image: Image, options: ImageOptions, context: ExportContext) -> Descriptor:
    """The descriptor as a layout's index.json lists it."""
    epoch = options.epoch if options.epoch is not None else context.settings.source_date_epoch
    seconds = epoch if epoch is not None else context.now_ns // 10**9
    entry = replace(image.root, artifact_type="").with_annotations({CREATED: format_time(seconds * 10**9)})
    if image.index is None:
        entry = replace(entry, platform=image.images[0].platform)
    return entry.with_annotations(root_annotations(options.annotations, image))


@contextmanager
def opened(dest: str) -> Iterator[BinaryIO]:
    """The file to write: standard output for `-` or nothing, else `dest`, which appears only when it is complete.

    Raises:
        UsageError: standard output is a terminal.
    """
    if dest in ("", "-"):
        if sys.stdout.isatty():
            raise UsageError("refusing to write a tar to the terminal", hint="use dest=FILE, or redirect the output")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.isdir(dest):
        raise UsageError(f"{dest} is a directory", hint="dest= names the file to write")
    if os.path.exists(dest) and not os.path.isfile(dest):  # a pipe or a device
        with open(dest, "wb") as file:
            yield file
        return
    os.makedirs(os.path.dirname(os.path.abspath(dest)), exist_ok=True)
    fresh = f"{dest}.{os.getpid()}.part"
    try:
        with open(fresh, "wb") as file:
            yield file
        os.replace(fresh, dest)
    except BaseException:
        if os.path.exists(fresh):
            os.unlink(fresh)
        raise
