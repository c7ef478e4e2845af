"""`type=tar`: a result's files as one tar, owners and modes as in the image."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from knarr import virtual
from knarr.builder import Export
from knarr.export.clock import SECOND
from knarr.export.context import epoch_of
from knarr.export.options import tree_options
from knarr.export.parts import PLATFORM_MODE, mounted_parts
from knarr.export.taken import opened_for
from knarr.export.vertex import Vertex
from knarr.layer.samefile import in_tree
from knarr.layer.tar import DIRECTORY, Entry
from knarr.layer.tar_write import encode
from knarr.layer.tree_write import TreeWriter

if TYPE_CHECKING:
    from knarr.export.context import ExportContext, Result
    from knarr.scope import Scope


_NOTHING: Mapping[str, str] = {}


def export_tar(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the tar; it appears only when it is complete."""
    options = tree_options(export)
    epoch = epoch_of(options.epoch, context, *result.frontend.results)
    with (
        Vertex(context.sink, "exporting to client tarball") as vertex,
        opened_for(export, context, options.dest, {}) as out,
        vertex.phase("sending tarball"),
        mounted_parts(result, options, context) as parts,
    ):
        writer = TreeWriter(out, mtime_s=epoch, attributes=in_tree)
        directories: set[str] = set()
        for part in parts:
            if part.directory:
                writer.put(platform_directory(part.directory, epoch))
            write_below(writer, part.root, part.directory, directories, context.scope, part.more)
        writer.close()
    return {}


def platform_directory(name: str, epoch: int | None) -> bytes:
    """The header of a platform's directory, which is nobody's: like BuildKit's it has no time but the epoch."""
    return encode(Entry(f"{name}/", DIRECTORY, PLATFORM_MODE, mtime_ns=(epoch or 0) * SECOND))


def write_below(
    writer: TreeWriter,
    root: str,
    directory: str,
    directories: set[str],
    scope: Scope,
    more: Mapping[str, str] = _NOTHING,
) -> None:
    """Write the tree `root` below `directory` ("": at the top), in the order of its names.

    `directories` are those that the tar has already, which are not repeated; what is
    written is added. `more` are files that lie elsewhere, by their names at the top.
    """
    prefix = f"{directory}/" if directory else ""
    levels = [(root + "/", prefix, iter(sorted({*os.listdir(root), *more}, key=os.fsencode)))]
    while levels:
        path, shown, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            continue
        scope.check()
        if name in more and len(levels) == 1:
            writer.file(shown + name, more[name], os.lstat(more[name]))
            continue
        status = virtual.seen(path + name, os.lstat(path + name))
        if stat.S_ISDIR(status.st_mode):
            if shown + name not in directories:
                directories.add(shown + name)
                writer.put(writer.directory(shown + name, path + name, status))
            below = iter(sorted(os.listdir(path + name), key=os.fsencode))
            levels.append((f"{path}{name}/", f"{shown}{name}/", below))
        else:
            writer.file(shown + name, path + name, status)
