"""Which renderer shows a build: what was asked for, or what fits where standard error goes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.cli.progress.feed import Renderer


def choose(mode: str, stream: TextIO, environ: Mapping[str, str]) -> Renderer | None:
    """The renderer for `mode` (auto, plain, tty, rawjson, quiet, none) on `stream`; None shows nothing.

    Raises:
        UsageError: `tty` was asked for, and `stream` is no terminal.
    """
    if mode in ("quiet", "none"):
        return None
    if mode == "rawjson":
        from knarr.cli.progress.rawjson import RawJson

        return RawJson()
    terminal = stream.isatty() and environ.get("TERM") != "dumb"
    if mode == "tty" and not terminal:
        raise UsageError("--progress=tty: standard error is not a terminal", hint="use --progress=plain")
    if mode == "plain" or not terminal:
        from knarr.cli.progress.plain import Plain

        return Plain()
    from knarr.cli.progress.tty import LOG_LINES, Tty

    lines = environ.get("BUILDKIT_TTY_LOG_LINES", "")
    return Tty(
        lambda: _size(stream),
        colours=not environ.get("NO_COLOR"),
        log_lines=int(lines) if lines.isdigit() else LOG_LINES,
    )


def _size(stream: TextIO) -> tuple[int, int]:
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, rows or 24
