"""Versions in tags, and ranges of them.

Versions are read as they are met in tags: `v1.2`, `1.2.3-rc.1`, `10.0.17763.0`.
Ranges are those of Masterminds/semver 3 (skopeo) and regsync: `>=1.2 <2`, `~1.4`,
`^1.2.3`, `1.x`, `1.2 - 1.4`, with `||` between alternatives. As there, a version
with a pre-release is only within a range that names one itself.

Spec: semver.org 2.0.0, section 11, for the order.
"""

from __future__ import annotations

import re
from functools import total_ordering

from knarr.errors import UsageError

_VERSION = re.compile(r"[vV]?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_PART = re.compile(r"(=>|>=|=<|<=|!=|~>|[=<>~^])?\s*([vV]?[0-9xX*][0-9A-Za-z.*+-]*)")
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)")


@total_ordering
class Version:
    """A version. `numbers` has at least three."""

    def __init__(self, numbers: tuple[int, ...], prerelease: tuple[str, ...] = ()) -> None:
        self.numbers = numbers + (0,) * (3 - len(numbers))
        self.prerelease = prerelease

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """The version that a tag is, or None."""
        match = _VERSION.fullmatch(text)
        if match is None or len(text) > 128:
            return None
        return cls(tuple(map(int, match[1].split("."))), tuple(match[2].split(".")) if match[2] else ())

    def _key(self) -> tuple[object, ...]:
        numbers = self.numbers
        while len(numbers) > 3 and numbers[-1] == 0:
            numbers = numbers[:-1]
        # A release comes after its pre-releases; numbers come before words there.
        words = tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in self.prerelease)
        return numbers, not self.prerelease, words

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key() == other._key()

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class Range:
    """Versions between bounds, or several such."""

    def __init__(self, text: str) -> None:
        """Read `text`.

        Raises:
            UsageError: malformed.
        """
        self._alternatives = [_bounds(part, text) for part in text.split("||")]

    def has(self, version: Version) -> bool:
        return any(_within(version, bounds) for bounds in self._alternatives)


Bound = tuple[str, Version]  # one of < <= > >= = !=, and what to compare with


def _within(version: Version, bounds: list[Bound]) -> bool:
    if version.prerelease and not any(bound.prerelease for _, bound in bounds):
        return False
    tests = {
        "=": lambda bound: version == bound,
        "!=": lambda bound: version != bound,
        "<": lambda bound: version < bound,
        "<=": lambda bound: version <= bound,
        ">": lambda bound: version > bound,
        ">=": lambda bound: version >= bound,
    }
    return all(tests[operator](bound) for operator, bound in bounds)


def _bounds(text: str, whole: str) -> list[Bound]:
    text = _HYPHEN.sub(r">=\1 <=\2", text.strip())
    found: list[Bound] = []
    at = 0
    text = text.replace(",", " ").strip()
    while at < len(text):
        match = _PART.match(text, at)
        if match is None:
            raise UsageError(
                f"{whole!r} is not a range of versions", hint="such as '>=1.2 <2', '~1.4', '^1.2.3' or '1.x'"
            )
        found += _expanded(match[1] or "", match[2], whole)
        at = match.end()
        while at < len(text) and text[at] == " ":
            at += 1
    if not found:
        raise UsageError(f"{whole!r} is not a range of versions: it is empty")
    return found


def _expanded(operator: str, text: str, whole: str) -> list[Bound]:
    """One part as plain bounds; a part with missing or open numbers stands for a range."""
    base, _, suffix = text.lstrip("vV").partition("-")
    words = base.partition("+")[0].split(".")
    given: list[int] = []
    for place, word in enumerate(words):
        if word in ("x", "X", "*") and all(rest in ("x", "X", "*") for rest in words[place:]):
            break
        if not word.isdigit():
            raise UsageError(f"{whole!r} is not a range of versions: {text!r}")
        given.append(int(word))
    is_open = len(given) < 3
    low = Version(tuple(given), tuple(suffix.split(".")) if suffix else ())
    operator = {"=>": ">=", "=<": "<=", "~>": "~"}.get(operator, operator)
    if operator == "^":
        return [(">=", low), ("<", _caret(given))]
    if operator == "~" or (operator in ("", "=") and is_open):
        if not given:
            return [(">=", low)]
        return [(">=", low), ("<", _next(given[:2] if operator == "~" else given))]
    if is_open and given and operator in (">", "<="):
        # >1.2 is beyond all of 1.2, and <=1.2 takes all of it.
        return [(">=" if operator == ">" else "<", _next(given))]
    return [(operator or "=", low)]


def _next(numbers: list[int]) -> Version:
    return Version((*numbers[:-1], numbers[-1] + 1))


def _caret(numbers: list[int]) -> Version:
    """The first version that may break: the leftmost number that is not zero goes up."""
    for place, number in enumerate(numbers):
        if number or place == len(numbers) - 1:
            return Version((*numbers[:place], number + 1))
    return Version((1,))
