"""`knarr history`: how an image was made, the last step first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.table import ago, rows, shortened
from knarr.errors import UsageError
from knarr.record import record
from knarr.spec.platform import Platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.image.stored import StoredImage

FLAGS = (
    Flag("platform", Kind.TEXT, "PLATFORM", "the image for this platform (default: this machine's)"),
    Flag("no-trunc", Kind.SWITCH, "", "whole steps and digests"),
    Flag("quiet", Kind.SWITCH, "", "print only the layers' digests", short="q"),
    Flag("format", Kind.TEXT, "FORM", "table (the default) or json: one object a line"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_WIDTH = 60


@record
class Step:
    """One line of an image's history. `layer` is empty for a step that changed no file."""

    created: str
    created_by: str
    comment: str
    layer: str
    size_bytes: int


def help_text() -> str:
    """What `knarr history --help` prints."""
    return f"Usage: knarr history [OPTIONS] IMAGE\n\nShow how an image was made.\n\nOptions:\n{usage(FLAGS)}"


def run(argv: list[str]) -> int:
    """Carry out `knarr history ARGUMENTS`."""
    from knarr.cli.state import open_parts
    from knarr.image.stored import lookup, one_image

    given = parse(FLAGS, argv, command="knarr history")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr history needs one image", hint="see `knarr history --help`")
    form = given.text("format", "table")
    if form not in ("table", "json"):
        raise UsageError(f"--format {form}: not known", hint="use table or json")
    platform = Platform.parse(given.text("platform")) if given.text("platform") else None
    with open_parts(os.environ) as parts:
        image = one_image(parts.store, lookup(parts.store, given.words[0]), platform)
    for line in _lines(steps(image), form, quiet=given.switch("quiet"), whole=given.switch("no-trunc")):
        print(line)
    return 0


def steps(image: StoredImage) -> list[Step]:
    """The history with its layers, the last step first. Layers that it does not tell of come at its beginning."""
    layers = list(image.manifest.layers)
    told = [line for line in image.config.history if not line.empty_layer]
    found = [Step("", "", "", str(layer.digest), layer.size) for layer in layers[: max(0, len(layers) - len(told))]]
    rest = iter(layers[len(found) :])
    for line in image.config.history:
        layer = None if line.empty_layer else next(rest, None)
        digest, size = (str(layer.digest), layer.size) if layer else ("", 0)
        found.append(Step(line.created or "", line.created_by, line.comment, digest, size))
    return found[::-1]


def _lines(found: Sequence[Step], form: str, *, quiet: bool, whole: bool) -> list[str]:
    if quiet:
        return [_digest(step.layer, whole) for step in found if step.layer]
    if form == "json":
        return [_json(step) for step in found]
    from knarr.cli.progress.figures import size

    table = [["LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"]]
    for step in found:
        by = " ".join(step.created_by.split()) if whole else shortened(step.created_by, _WIDTH)
        layer = _digest(step.layer, whole) or "-"
        table.append([layer, ago(step.created), by, size(step.size_bytes), step.comment])
    return rows(table)


def _digest(digest: str, whole: bool) -> str:
    return digest if whole else digest.partition(":")[2][:12]


def _json(step: Step) -> str:
    import json

    data = {
        "Layer": step.layer,
        "CreatedAt": step.created,
        "CreatedBy": step.created_by,
        "Size": step.size_bytes,
        "Comment": step.comment,
    }
    return json.dumps(data, ensure_ascii=False)
