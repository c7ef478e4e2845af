"""Which ids of this machine a user was given: /etc/subuid and /etc/subgid.

Spec: subuid(5). A line is `name-or-uid:first:count`; what is not is skipped, as
newuidmap does, which looks at the same files and has the last word.
"""

from __future__ import annotations

import os

from knarr.record import record

_MAX_ID = 2**32 - 2


@record
class Range:
    """`count` ids of the machine from `first` on."""

    first: int
    count: int


def subordinate(path: str, uid: int, name: str) -> tuple[Range, ...]:
    """The ranges that the file gives the user, in its order; none when there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ()
    return tuple(found for line in lines if (found := _range(line, uid, name)) is not None)


def _range(line: str, uid: int, name: str) -> Range | None:
    owner, _, numbers = line.strip().partition(":")
    first, _, count = numbers.partition(":")
    if owner not in (name, str(uid)) or not all(text.isascii() and text.isdigit() for text in (first, count)):
        return None
    found = Range(int(first), int(count))
    if not found.count or not found.first or found.first + found.count - 1 > _MAX_ID:
        return None  # uid 0 of the machine is nobody's to give
    return found


def login_name(uid: int) -> str:
    """The user's name; empty when the machine has none for the number."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def as_root(own: int, ranges: tuple[Range, ...]) -> tuple[tuple[int, int, int], ...]:
    """The map in which `own` is 0 and the ranges follow from 1 on: (id inside, id outside, count) each."""
    lines, inside = [(0, own, 1)], 1
    for found in ranges:
        lines.append((inside, found.first, found.count))
        inside += found.count
    return tuple(lines)


def program(name: str) -> str:
    """Where newuidmap or newgidmap is installed; empty when it is not."""
    places = dict.fromkeys((*os.environ.get("PATH", os.defpath).split(":"), "/usr/bin", "/usr/local/bin"))
    found = (f"{place}/{name}" for place in places if place)
    return next((path for path in found if os.access(path, os.X_OK)), "")
