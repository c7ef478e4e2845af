"""Carry out the outputs of a build.

Each reads its own options; layers that several of them want are made once, since
whoever comes second finds them in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knarr.builder import Export
from knarr.export.context import ExportContext, Result
from knarr.export.options import check

_EXPORTERS = {
    "image": ("image", "export_image"),
    "registry": ("image", "export_image"),
    "oci": ("archive", "export_archive"),
    "docker": ("archive", "export_archive"),
    "local": ("local", "export_local"),
    "tar": ("tar", "export_tar"),
}


def export(exports: Sequence[Export], result: Result, context: ExportContext) -> dict[str, Any]:
    """Carry out every output; returns what `--metadata-file` tells (of the first output that has something to tell).

    Raises:
        UsageError, Unsupported: an option of any of them; nothing was exported then.
        KnarrError: an output failed; those before it are complete.
    """
    from importlib import import_module

    for wanted in exports:
        check(wanted)
    answer: dict[str, Any] = {}
    for wanted in exports:
        if wanted.type == "cacheonly":
            continue
        module, name = _EXPORTERS[wanted.type]
        if wanted.type == "local" and wanted.taker is not None:
            module, name = "taken", "export_directory"
        run = getattr(import_module(f"knarr.export.{module}"), name)
        answer = {**run(wanted, result, context), **answer}
    if context.build_ref:
        answer["buildx.build.ref"] = context.build_ref
    return answer
