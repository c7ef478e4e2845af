"""Shell patterns of `${name#p}`, `${name%p}` and `${name/p/r}`: `*`, `?` and `\\` escapes, no brackets.

A pattern is cut at its stars. Between two stars the earliest place is always as
good as any later one, so pieces are matched one after another without going
back: no pattern can make matching slower than quadratic, where a plain regular
expression with many stars takes exponential time. Neither wildcard matches a
newline, as in BuildKit.

    >>> compile_pattern("*/").trim_prefix("usr/local/bin", longest=True)
    'bin'
"""

from __future__ import annotations

import re

from knarr.record import record

STAR = None  # a token of its own; every other token matches exactly one character

_Token = str | None


@record
class Pattern:
    """A pattern as tokens: STAR, or a regular expression for one character."""

    tokens: tuple[_Token, ...]

    def trim_prefix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest beginning that matches."""
        found = _Finder(self.tokens, longest).at(value, 0)
        return value[found:] if found >= 0 else value

    def trim_suffix(self, value: str, *, longest: bool) -> str:
        """`value` without the shortest or longest end that matches."""
        turned = Pattern(self.tokens[::-1]).trim_prefix(value[::-1], longest=longest)
        return turned[::-1]

    def replace(self, value: str, replacement: str, *, every: bool) -> str:
        """`value` with the first match, or every match, replaced; matches are as long as possible."""
        finder = _Finder(self.tokens, longest=True)
        if every:
            return _replace_every(finder, value, replacement)
        found = finder.search(value, 0)
        return value if found is None else value[: found[0]] + replacement + value[found[1] :]


def compile_pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises:
        ValueError: a backslash before something that needs no escape.
    """
    tokens: list[_Token] = []
    chars = iter(text)
    for char in chars:
        if char == "*":
            tokens.append(STAR)
        elif char == "?":
            tokens.append(".")
        elif char == "\\":
            escaped = next(chars, "")
            # `}` and `/` are escaped for the sake of the ${} around the pattern.
            if escaped not in ("}", "/", "*", "?", "\\"):
                raise ValueError(f"invalid escape '\\{escaped}'")
            tokens.append(re.escape(escaped))
        else:
            tokens.append(re.escape(char))
    return Pattern(tuple(tokens))


class _Finder:
    """Finds the leftmost match; of those that start there the longest or the shortest."""

    def __init__(self, tokens: tuple[_Token, ...], longest: bool) -> None:
        pieces: list[list[str]] = [[]]
        for token in tokens:
            if token is STAR:
                pieces.append([])
            else:
                pieces[-1].append(token)
        head, *rest = pieces
        self._head_length = len(head)
        self._head = re.compile("".join(head))
        self._rest: re.Pattern[str] | None = None
        if rest:
            inner = "".join(f"(?>.*?{''.join(piece)})" for piece in rest[:-1])
            self._rest = re.compile(f"{inner}{'.*' if longest else '.*?'}{''.join(rest[-1])}")

    def at(self, value: str, start: int) -> int:
        """Where the match that starts at `start` ends, or -1."""
        head = self._head.match(value, start)
        if head is None:
            return -1
        if self._rest is None:
            return head.end()
        rest = self._rest.match(value, head.end())
        return rest.end() if rest else -1

    def search(self, value: str, start: int) -> tuple[int, int] | None:
        """The first match at or after `start`."""
        while head := self._head.search(value, start):
            if self._rest is None:
                return head.span()
            if rest := self._rest.match(value, head.end()):
                return head.start(), rest.end()
            # What a star cannot reach from here it cannot reach from further
            # right on the same line either: go on where the star starts on the next.
            newline = value.find("\n", head.end())
            if newline < 0:
                return None
            start = max(head.start() + 1, newline + 1 - self._head_length)
        return None


def _replace_every(finder: _Finder, value: str, replacement: str) -> str:
    """As Go's ReplaceAll: an empty match right behind another match does not count."""
    parts = []
    search_from = last_end = 0
    while search_from <= len(value):
        found = finder.search(value, search_from)
        if found is None:
            break
        start, end = found
        parts.append(value[last_end:start])
        if end > last_end or start == 0:
            parts.append(replacement)
        last_end = end
        search_from = max(end, search_from + 1)
    parts.append(value[last_end:])
    return "".join(parts)
