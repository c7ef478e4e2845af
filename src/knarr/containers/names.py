"""Names for containers that were given none: two words that can be said and remembered."""

from __future__ import annotations

import os
import re

from knarr.errors import UsageError

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_FIRST = (
    *("able", "bold", "brisk", "broad", "calm", "clear", "deep", "dry", "eager", "early", "fair", "fast", "firm"),
    *("fresh", "glad", "grand", "green", "grey", "high", "keen", "kind", "light", "long", "low", "mild", "neat"),
    *("new", "north", "old", "plain", "proud", "quick", "quiet", "red", "salt", "sharp", "slow", "snug", "south"),
    *("stout", "strong", "sunny", "swift", "tall", "tight", "true", "warm", "west", "white", "wide", "wise"),
)
_SECOND = (
    *("anchor", "bay", "beacon", "bow", "bridge", "bulk", "buoy", "cargo", "chart", "cleat", "coast", "compass"),
    *("crew", "current", "deck", "delta", "dock", "fjord", "foam", "gale", "gull", "harbour", "haul", "helm"),
    *("hull", "inlet", "island", "keel", "knot", "lagoon", "lock", "mast", "mooring", "oar", "pier", "pilot"),
    *("port", "prow", "reef", "rope", "rudder", "sail", "seal", "shoal", "skiff", "stern", "strait", "tide"),
)


def made_up() -> str:
    """A name that nobody has, most likely: the end of it is a number."""
    first, second, *rest = os.urandom(4)
    return f"{_FIRST[first % len(_FIRST)]}_{_SECOND[second % len(_SECOND)]}_{bytes(rest).hex()}"


def check(name: str) -> None:
    """Refuse what cannot be a container's name.

    Raises:
        UsageError: it cannot.
    """
    if not _NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be the name of a container",
            hint="a letter or a digit, then letters, digits, '_', '.' and '-'",
        )
