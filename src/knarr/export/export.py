"""Runs the outputs of a build, one after another; layers are computed once, since each finds them packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knarr.builder import Export
from knarr.errors import UsageError
from knarr.export.context import ExportContext, Result
from knarr.export.options import check

_MODULES = {
    "image": ("image", "export_image"),
    "registry": ("image", "export_image"),
    "oci": ("archive", "export_archive"),
    "docker": ("archive", "export_archive"),
    "local": ("files", "export_local"),
    "tar": ("files", "export_tar"),
}


def export(exports: Sequence[Export], result: Result, context: ExportContext) -> dict[str, Any]:
    """Carry out every output; returns the metadata of all (the first one's values win).

    Raises:
        KnarrError: an output failed; those before it are complete.
    """
    from importlib import import_module

    for wanted in exports:
        if wanted.type != "cacheonly" and wanted.type not in _MODULES:
            raise UsageError(f"--output type={wanted.type}: not known")
        check(wanted.type, wanted.attrs)
    answer: dict[str, Any] = {}
    for wanted in exports:
        if wanted.type == "cacheonly":
            continue
        module, name = _MODULES[wanted.type]
        run = getattr(import_module(f"knarr.export.{module}"), name)
        answer = {**run(wanted, result, context), **answer}
    return answer
