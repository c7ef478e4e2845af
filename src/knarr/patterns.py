"""Which paths a pattern means: Go's filepath.Match, and the ignore patterns of Docker.

`match` is what COPY wildcards are. A `Matcher` is a list of ignore patterns with
`!`, `**` and parents that match for all that lies below; the last pattern that
matches decides. It is compiled into one regular expression per run of patterns of
the same sign, so that a hundred thousand paths cost a microsecond each.

    hidden = Matcher(parse_ignore(b"*\\n!src\\n"))
    hidden.matches("README"), hidden.matches("src/a.c")  # True, False

Semantics: Go 1.26 path/filepath; moby/patternmatcher 0.6 (tables in tests/test_patterns.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache

from knarr.errors import UsageError

_BOM = b"\xef\xbb\xbf"
_SPECIAL = frozenset(".+()|{}$^")


def has_wildcard(text: str) -> bool:
    """Whether filepath.Match would see a `*`, `?` or `[` in `text` that no backslash quotes."""
    escaped = False
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "*?[":
            return True
    return False


def match(pattern: str, name: str) -> bool:
    """Go's filepath.Match: `*` and `?` stop at a slash, `[a-z]` and `[^a-z]` are classes, a backslash quotes.

    Raises:
        UsageError: `pattern` is malformed.
    """
    return _compiled_match(pattern).fullmatch(name) is not None


@lru_cache(maxsize=1024)
def _compiled_match(pattern: str) -> re.Pattern[str]:
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            text, position = _class(pattern, position)
            parts.append(text)
        elif character == "\\":
            if position == len(pattern):
                raise _malformed(pattern)
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The regular expression of the class that begins at `position`, behind its `[`, and where it ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not (pattern.startswith("]", position) and ranges):
        low, position = _class_character(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # Go takes an empty range, which matches nothing
    body = "".join(ranges)
    if not body:
        return ("(?s:.)" if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{body}]", position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    if position >= len(pattern) or pattern[position] in "-]":
        raise _malformed(pattern)
    if pattern[position] == "\\":
        position += 1
    if position >= len(pattern) - 1:  # a closing bracket must follow
        raise _malformed(pattern)
    return pattern[position], position + 1


def _malformed(pattern: str) -> UsageError:
    return UsageError(f"{pattern!r} is not a valid pattern", hint="check its brackets and backslashes")


def parse_ignore(text: bytes) -> tuple[str, ...]:
    """The patterns of a .dockerignore, cleaned; comments (`#` in column 0) and blank lines are left out."""
    patterns = []
    for line in text.removeprefix(_BOM).decode(errors="surrogateescape").split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = os.path.normpath(pattern)
            pattern = pattern.lstrip("/") if len(pattern) > 1 else pattern
        if pattern or negated:
            patterns.append(f"!{pattern}" if negated else pattern)
    return tuple(patterns)


class Matcher:
    """Ignore patterns, compiled. Paths are relative, with `/`, and have no leading slash.

    Raises:
        UsageError: a pattern is malformed, or is a lone `!`.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns: list[tuple[bool, str, int]] = []  # (re-includes, pattern, its place in the list given)
        for place, text in enumerate(patterns):
            pattern = text.strip()
            if not pattern:
                continue
            negated = pattern.startswith("!")
            pattern = pattern[1:] if negated else pattern
            if not pattern:
                raise UsageError("a lone '!' is not a pattern", hint="write what is to be kept behind the '!'")
            self._patterns.append((negated, _clean(pattern), place))
        # From the last run of equal sign to the first: the first of these that matches decides.
        self._runs = [(re.compile(text, re.DOTALL).fullmatch, not negated) for negated, text in self._joined()]
        self._kept = [_components(pattern) for negated, pattern, _ in self._patterns if negated]

    def _joined(self) -> list[tuple[bool, str]]:
        runs: list[tuple[bool, list[str]]] = []
        for negated, pattern, _ in self._patterns:
            if not runs or runs[-1][0] != negated:
                runs.append((negated, []))
            runs[-1][1].append(_expression(pattern))
        return [(negated, f"(?:{'|'.join(texts)})(?:/.*)?") for negated, texts in reversed(runs)]

    @property
    def has_exceptions(self) -> bool:
        """Whether any pattern begins with `!`."""
        return bool(self._kept)

    def matches(self, path: str) -> bool:
        """Whether the last pattern that matches `path` or a directory above it is one without `!`."""
        for matched, verdict in self._runs:
            if matched(path) is not None:
                return verdict
        return False

    def may_contain_match(self, directory: str) -> bool:
        """Whether something below a matching `directory` may not match: a `!` pattern reaches into it."""
        parts = directory.split("/")
        return any(_reaches(pattern, parts) for pattern in self._kept)

    def why(self, path: str) -> int | None:
        """The place, in the list given, of the pattern that hides `path`; None when nothing does."""
        found: int | None = None
        for negated, pattern, place in self._patterns:
            if (found is None) == negated:
                continue
            if re.fullmatch(f"(?:{_expression(pattern)})(?:/.*)?", path, re.DOTALL):
                found = None if negated else place
        return found


def _clean(pattern: str) -> str:
    normal = os.path.normpath(pattern)
    return normal.lstrip("/") if len(normal) > 1 else normal


def _expression(pattern: str) -> str:
    """The regular expression of one ignore pattern."""
    parts: list[str] = []
    position = 0
    length = len(pattern)
    while position < length:
        character = pattern[position]
        position += 1
        if character == "*":
            if not pattern.startswith("*", position):
                parts.append("[^/]*")
                continue
            position += 1
            if pattern.startswith("/", position):
                position += 1
            parts.append(".*" if position >= length else "(?:.*/)?")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            text, position = _class(pattern, position)
            parts.append(text)
        elif character == "\\":
            if position == length:
                raise _malformed(pattern)
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(character) if character in _SPECIAL else character)
    return "".join(parts)


def _components(pattern: str) -> list[re.Pattern[str] | None]:
    """The pattern directory by directory; None stands for `**`, which may be any number of them."""
    return [None if "**" in part else re.compile(_expression(part), re.DOTALL) for part in pattern.split("/")]


def _reaches(pattern: list[re.Pattern[str] | None], directory: list[str]) -> bool:
    """Whether `pattern` can match something below `directory` (or the directory itself)."""
    for part, name in zip(pattern, directory, strict=False):
        if part is None:
            return True
        if part.fullmatch(name) is None:
            return False
    return True
