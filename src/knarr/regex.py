"""Regular expressions that are compiled when they are first used.

A build meets some fifty at the top of modules and needs a third of them; the others
took 3 of the 65 ms that loading modules takes.

    _NUMBER = later(r"[0-9]+")
    _NUMBER.fullmatch(text)
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_METHODS = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn")


def later(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """What `re.compile` gives, as far as its methods go; a pattern that is none is found out with the first use."""
    made: Any = _Later(pattern, flags)
    return made  # type: ignore[no-any-return]


class _Later:
    __slots__ = ("_asked", *_METHODS)

    def __init__(self, pattern: str, flags: int) -> None:
        self._asked = pattern, flags

    def __getattr__(self, name: str) -> Any:
        # Asked for while the slots are empty, and not again: the methods are in them then.
        compiled = re.compile(*self._asked)
        for method in _METHODS:
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)
