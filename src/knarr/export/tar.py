"""`type=tar`: a result's files as one tar, owners and modes as in the image."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.errors import UsageError
from knarr.export.options import tree_options
from knarr.export.parts import parts_of
from knarr.export.taken import opened_for
from knarr.export.vertex import Vertex
from knarr.layer.tree_write import TreeWriter

if TYPE_CHECKING:
    from knarr.export.context import ExportContext, Result
    from knarr.scope import Scope


def export_tar(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Write the tar; it appears only when it is complete."""
    options = tree_options(export)
    epoch = options.epoch if options.epoch is not None else context.settings.source_date_epoch
    with (
        Vertex(context.sink, "exporting to client tarball") as vertex,
        opened_for(export, context, options.dest, {}) as out,
        vertex.phase("sending tarball"),
    ):
        writer = TreeWriter(out, max_mtime_s=epoch)
        parts = parts_of(result, options, context)
        if len({part.directory for part in parts}) < len(parts):
            raise UsageError("a tar cannot hold the same files twice", hint="leave out platform-split=false")
        for part in parts:
            with result.trees.mounted(part.tree) as tree:
                write_below(writer, os.fspath(tree), part.directory, context.scope)
        writer.close()
    return {}


def write_below(writer: TreeWriter, root: str, directory: str, scope: Scope) -> None:
    """Write the tree `root` below `directory` ("": at the top), in the order of its names."""
    prefix = f"{directory}/" if directory else ""
    if directory:
        _put_directory(writer, directory, root)
    levels = [(root + "/", prefix, iter(sorted(os.listdir(root), key=os.fsencode)))]
    while levels:
        path, shown, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
            continue
        scope.check()
        status = os.lstat(path + name)
        if stat.S_ISDIR(status.st_mode):
            _put_directory(writer, shown + name, path + name)
            below = iter(sorted(os.listdir(path + name), key=os.fsencode))
            levels.append((f"{path}{name}/", f"{shown}{name}/", below))
        else:
            writer.file(shown + name, path + name, status)


def _put_directory(writer: TreeWriter, name: str, path: str) -> None:
    writer.put(writer.directory(name, path, os.lstat(path)))
