"""Carry out the outputs of a build.

Each reads its own options; layers that several of them want are made once, since
whoever comes second finds them in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from knarr.builder import Export
from knarr.export.context import ExportContext, Result
from knarr.export.options import PASSED_OVER, check
from knarr.progress import Warned
from knarr.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from knarr.layer.compress import Compression

_EXPORTERS = {
    "image": ("image", "export_image"),
    "registry": ("image", "export_image"),
    "oci": ("archive", "export_archive"),
    "docker": ("archive", "export_archive"),
    "local": ("local", "export_local"),
    "tar": ("tar", "export_tar"),
    "containerd": ("containerd", "export_containerd"),
}

# What exporters import when they come to it, by what they make.
_LAYERS = ("knarr.layer.pack", "knarr.layer.diff", "knarr.layer.tree_write", "knarr.export.make")
_PUSH = ("knarr.export.push", "knarr.remote.upload")


def make_ready(exports: Sequence[Export]) -> Compression | None:
    """Load what carrying out `exports` will take, for who has nothing better to do at the moment.

    Returns how the layers will be compressed; None where no layers will be made.
    """
    from importlib import import_module

    from knarr.export.options import archive_options, containerd_options, image_options

    compressions: list[Compression] = []
    for wanted in exports:
        if wanted.type == "cacheonly":
            continue
        import_module(f"knarr.export.{_EXPORTERS[wanted.type][0]}")
        later: tuple[str, ...] = ()
        if wanted.type in ("image", "registry"):
            options = image_options(wanted)
            compressions.append(options.layers.compression)
            later = (*_LAYERS, *_PUSH) if options.push else _LAYERS
        elif wanted.type in ("oci", "docker"):
            compressions.append(archive_options(wanted).layers.compression)
            later = _LAYERS
        elif wanted.type == "containerd":
            compressions.append(containerd_options(wanted).layers.compression)
            later = _LAYERS
        for name in later:
            import_module(name)
    return compressions[0] if compressions else None


def export(exports: Sequence[Export], result: Result, context: ExportContext) -> dict[str, Any]:
    """Carry out every output; returns what `--metadata-file` tells (of the last output that has something to tell).

    Raises:
        UsageError, Unsupported: an option of any of them; nothing was exported then.
        KnarrError: an output failed; those before it are complete.
    """
    from importlib import import_module

    for wanted in exports:
        check(wanted)
        for key in sorted(set(PASSED_OVER) & wanted.attrs.keys()):
            context.sink.send(Warned("export", f"type={wanted.type}: {key} has no effect, here as in BuildKit"))
    answer: dict[str, Any] = {}
    for number, wanted in enumerate(exports):
        if wanted.type == "cacheonly":
            continue
        module, name = _EXPORTERS[wanted.type]
        if wanted.type == "local" and wanted.taker is not None:
            module, name = "taken", "export_directory"
        run = getattr(import_module(f"knarr.export.{module}"), name)
        told = run(wanted, result, context)
        answer |= told
        if "containerimage.descriptor" in told:
            context.made[number] = Descriptor.from_json(told["containerimage.descriptor"])
    if context.build_ref:
        answer["buildx.build.ref"] = context.build_ref
    return answer
