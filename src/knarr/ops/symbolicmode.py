"""Symbolic modes of chmod: `u=rwX,go=rX`, `a+x`, `g=u`.

Semantics of POSIX chmod(1) with a umask of 0, which is how BuildKit applies
`COPY --chmod` (Dockerfile frontend 1.14).
"""

from __future__ import annotations

import re

from knarr.errors import UsageError

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_ACTION = re.compile(r"([-+=])([ugo](?![rwxXst])|[rwxXst]*)")
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111}
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_SHIFT = {"u": 6, "g": 3, "o": 0}


def apply_symbolic(text: str, mode: int, *, is_dir: bool) -> int:
    """The permission bits that `chmod text` gives a file that has `mode`.

    Raises:
        UsageError: `text` is not a symbolic mode.
    """
    bits = mode & 0o7777
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise UsageError(f"{text!r} is not a file mode", hint="write an octal mode like 755 or u=rwX,go=rX")
        who = match[1] or "a"
        mask = 0o7777 if "a" in who else 0
        for letter in who.replace("a", ""):
            mask |= _WHO[letter]
        for operator, permissions in _ACTION.findall(match[2]):
            bits = _act(bits, operator, permissions, mask, is_dir=is_dir)
    return bits


def _act(bits: int, operator: str, permissions: str, mask: int, *, is_dir: bool) -> int:
    wanted = _wanted(bits, permissions, is_dir=is_dir) & mask
    if operator == "+":
        return bits | wanted
    if operator == "-":
        return bits & ~wanted
    # `=` leaves setuid and setgid of a directory alone, as chmod(1) does.
    kept = 0o6000 & bits if is_dir and "s" not in permissions else 0
    return (bits & ~mask) | wanted | (kept & mask)


def _wanted(bits: int, permissions: str, *, is_dir: bool) -> int:
    if permissions in _SHIFT:
        triple = (bits >> _SHIFT[permissions]) & 7
        return triple << 6 | triple << 3 | triple
    wanted = 0
    for letter in permissions:
        if letter == "X":
            wanted |= 0o111 if is_dir or bits & 0o111 else 0
        elif letter == "s":
            wanted |= 0o6000
        elif letter == "t":
            wanted |= 0o1000
        else:
            wanted |= _BITS[letter]
    return wanted
