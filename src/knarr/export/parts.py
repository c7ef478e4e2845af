"""Where the trees of several platforms go in a directory or a tar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.record import record

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.export.context import ExportContext, Result
    from knarr.export.options import TreeOptions
    from knarr.spec.platform import Platform


@record
class Part:
    """One platform's tree, and the subdirectory it goes to ("": none)."""

    platform: Platform
    tree: RecordId | None
    directory: str


def parts_of(result: Result, options: TreeOptions, context: ExportContext) -> list[Part]:
    """The trees, each in a directory like `linux_arm64` when there are several, unless they are to be laid together."""
    several = len(result.records) > 1 or result.frontend.multi_platform or context.settings.multi_platform
    split = several if options.split is None else options.split
    return [
        Part(found.platform, tree, str(found.platform).replace("/", "_") if split else "")
        for found, tree in zip(result.frontend.results, result.records, strict=True)
    ]
