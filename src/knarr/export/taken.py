"""An output that the caller of the build takes: an archive as it is written, or a directory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.errors import Bug, Unsupported
from knarr.export.clock import SECOND
from knarr.export.context import epoch_of
from knarr.export.destination import opened
from knarr.export.options import tree_options
from knarr.export.parts import mounted_parts
from knarr.export.vertex import Vertex
from knarr.session.session import Taker

if TYPE_CHECKING:
    from knarr.builder import Export
    from knarr.export.context import ExportContext, Result
    from knarr.streams import Writable


def opened_for(
    export: Export, context: ExportContext, dest: str, about: Mapping[str, str]
) -> AbstractContextManager[Writable]:
    """Where an archive is written: the file `dest` here, or the caller, who is told `about` it."""
    if export.taker is None:
        return opened(dest)
    return _taker(context).take_file(export.taker, about)


def export_directory(export: Export, result: Result, context: ExportContext) -> dict[str, Any]:
    """Give a result's files to the caller, as `export.local` writes them here."""
    options = tree_options(export)
    epoch = epoch_of(options.epoch, context, *result.frontend.results)
    epoch_ns = None if epoch is None else epoch * SECOND
    with (
        Vertex(context.sink, "exporting to client directory") as vertex,
        mounted_parts(result, options, context) as parts,
    ):
        together = len({part.directory for part in parts}) == len(parts)
        if options.delete and not together:
            raise Unsupported("mode=delete with platform-split=false is not supported for several platforms")
        for group in [parts] if together else [[part] for part in parts]:
            shown = ", ".join(part.platform.in_full for part in group)
            roots = {part.directory: Path(part.root) for part in group}
            more = {part.directory: part.more for part in group}
            with vertex.phase(f"copying files {shown}"):
                _taker(context).take_tree(_number(export), roots, epoch_ns=epoch_ns, replaces=options.delete, more=more)
    return {}


def _taker(context: ExportContext) -> Taker:
    if context.taker is None:
        raise Bug("an output is for the caller, who takes none")
    return context.taker


def _number(export: Export) -> int:
    if export.taker is None:
        raise Bug("an output has no number")
    return export.taker
