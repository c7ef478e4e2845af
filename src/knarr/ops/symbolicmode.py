"""Symbolic modes of chmod: `u=rwX,go=rX`, `a+x`, `g=u`.

As BuildKit applies `COPY --chmod` (Dockerfile frontend 1.14), which is chmod(1) of
the BSDs with a umask of 0. Other than GNU's: `=` also clears setuid and setgid of
a directory, but the sticky bit only where `t` is named; `t` counts for any class
but `o`; `X` looks at the mode from before the whole text.
"""

from __future__ import annotations

import re

from knarr.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def apply_symbolic(text: str, mode: int, *, is_dir: bool) -> int:
    """The permission bits that `chmod text` gives a file that has `mode`.

    Raises:
        UsageError: `text` is not a symbolic mode.
    """
    before = bits = mode & 0o7777
    conditional = 0o111 if is_dir or before & 0o111 else 0  # what X means
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(f"{text!r} is not a file mode", hint="write an octal mode like 755 or u=rwX,go=rX")
        who = 0
        for letter in match[1] or "a":
            who |= _WHO[letter]
        for operator, permissions in _ACTION.findall(match[2]):
            bits = _act(bits, operator, permissions, who, conditional)
    return bits


def _act(bits: int, operator: str, permissions: str, who: int, conditional: int) -> int:
    if permissions in _SHIFT:
        triple = (bits >> _SHIFT[permissions]) & 7
        wanted = triple << 6 | triple << 3 | triple
        who &= 0o777  # a copy moves nothing else
    else:
        if "t" in permissions and who != _WHO["o"]:
            who |= 0o1000
        wanted = 0
        for letter in permissions:
            wanted |= _BITS[letter] if letter != "X" else 0o111 if operator == "-" else conditional
    wanted &= who
    if operator == "+":
        return bits | wanted
    return bits & ~wanted if operator == "-" else (bits & ~who) | wanted
