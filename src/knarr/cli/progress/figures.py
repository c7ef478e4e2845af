"""Bytes, seconds and text as people read them."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """Bytes with units of 1000, as BuildKit and docker show them: `48B`, `1.04MB`."""
    value, unit = float(count), 0
    while value >= 999.995 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{count}B" if unit == 0 else f"{value:.2f}{_UNITS[unit]}"


def seconds(nanoseconds: int) -> str:
    """A duration to a tenth of a second."""
    return f"{max(0, nanoseconds) / 1e9:.1f}s"


def stamp(nanoseconds: int) -> str:
    """The time of a log line since its step began, always about five characters."""
    value = max(0, nanoseconds) / 1e9
    places = 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{places}f}"


def plural(count: int, word: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
