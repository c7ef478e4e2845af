"""Tables for people: columns as wide as they need to be, and times as they are said."""

from __future__ import annotations

from collections.abc import Sequence


def rows(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, two spaces or more between columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def ago(created: str) -> str:
    """How long ago an RFC 3339 time was, in one unit; `-` for none or a strange one."""
    import time

    from knarr.errors import ContentError
    from knarr.export.clock import SECOND, nanoseconds

    if not created:
        return "-"
    try:
        seconds = time.time() - nanoseconds(created) / SECOND
    except ContentError:
        return "-"
    for unit, length in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def shortened(text: str, width: int) -> str:
    """`text` on one line, cut to `width` characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
