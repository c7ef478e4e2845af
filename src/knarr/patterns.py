"""Path patterns: Go's `filepath.Match`, and lists of patterns as .dockerignore has them.

Three dialects of one language. `match` is for the wildcards of COPY: `*`, `?`,
`[a-z]`, no `**`. `Matcher` is for exclude and include lists: `**` in addition, a
pattern that matches a directory matches all that is in it, and of the patterns
that change the answer the last one decides; behind `!` it decides the other way.
`parse_ignore` reads the file format around such a list.

    >>> ignored = Matcher(parse_ignore(b"*.md\\n!README.md\\n"))
    >>> ignored.matches("NOTES.md"), ignored.matches("README.md")
    (True, False)

Spec: moby/patternmatcher v0.6 (`MatchesUsingParentResults`, by which BuildKit
walks contexts) and its `ignorefile`; Go 1.24, `path/filepath.Match`. Two corners
are read as documented rather than as implemented there: a backslash always makes
the next character literal, and `*` and `?` inside brackets are literal.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import lru_cache

from knarr.errors import UsageError
from knarr.record import record

_BOM = b"\xef\xbb\xbf"
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_SPACE += "\u2028\u2029\u202f\u205f\u3000"  # what Go trims
_MAX_DIRECTORIES = 50_000  # remembered by a Matcher, about 10 MB


def match(pattern: str, name: str) -> bool:
    """Whether the whole of `name` matches; `*` and `?` do not cross a slash.

    Raises:
        UsageError: the pattern is malformed.
    """
    return _compile_match(pattern).fullmatch(name) is not None


def has_wildcard(pattern: str) -> bool:
    """Whether `pattern` can match other names than itself."""
    return any(char in pattern for char in "*?[\\")


def clean(path: str) -> str:
    """Go's `path.Clean`: without `.`, `..` and doubled slashes as far as the text alone allows."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def parse_ignore(text: bytes) -> tuple[str, ...]:
    """The patterns of a .dockerignore file, cleaned, in order.

    A line that begins with `#` is a comment; one with blanks before it is not. Bytes
    that are not UTF-8 come through as `os.fsdecode` would make them.
    """
    patterns = []
    for raw in text.removeprefix(_BOM).split(b"\n"):
        if raw.startswith(b"#"):
            continue
        pattern = raw.decode("utf-8", "surrogateescape").strip(_SPACE)
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip(_SPACE)
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        if pattern or negated:
            patterns.append("!" + pattern if negated else pattern)
    return tuple(patterns)


class Matcher:
    """A list of patterns, compiled once. Paths are relative, with slashes, without one at the end.

    Most paths match no pattern themselves; for them a question costs a few set
    look-ups and one regular expression, whatever the number of patterns, since
    what the directory above came to is remembered. May be shared by threads.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile. Empty patterns are passed over.

        Raises:
            UsageError: a pattern is malformed.
        """
        self.patterns = tuple(patterns)
        self._compiled = tuple(_compile_all(self.patterns))
        self._directories: dict[str, _Verdict] = {"": _NO_MATCH}
        self._steps = tuple((1 << at, at, one.negated, one.test) for at, one in enumerate(self._compiled))
        self._maybe = _quick_test(self._compiled)

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def matches(self, path: str) -> bool:
        """Whether the last pattern that decided about `path` or a directory above it is one without `!`.

        A pattern decides where it changes the answer: with `*.log` and `!keep`, the
        directory `keep` needs no `!`, so `keep/x.log` is matched all the same.
        """
        last = self._judge(path)[1]
        return last >= 0 and not self._compiled[last].negated

    def why(self, path: str) -> int | None:
        """The place in `patterns` of the one by which `path` matches, None when it does not match."""
        last = self._judge(path)[1]
        if last < 0 or self._compiled[last].negated:
            return None
        return self._compiled[last].place

    def may_contain_match(self, directory: str) -> bool:
        """Whether something in `directory` may be judged otherwise than `directory` itself.

        For an exclude list: whether a directory that is excluded must be walked all the
        same. For an include list: whether one that is not included must be. Can say True
        where there is nothing, never False where there is something.
        """
        last = self._judge(directory)[1]
        matched = last >= 0 and not self._compiled[last].negated
        parts = directory.split("/") if directory not in ("", ".") else []
        return any(pattern.negated == matched and _may_match_below(pattern.parts, parts) for pattern in self._compiled)

    def _judge(self, path: str) -> _Verdict:
        directory, _, name = path.rpartition("/")
        above = self._directories.get(directory)
        if above is None:
            above = self._judge_directories(directory)
        if not self._maybe(path, name):
            return above
        # A pattern that would not change the answer is not asked, and so does not
        # count for what lies below either. That is a rule, not a short cut: with
        # `a`, `!a/b`, `a*` the last one never decides about `a`, so `a/b` stays out.
        inherited = above[0]
        decided, last, matched = 0, -1, False
        for bit, index, negated, test in self._steps:
            if not inherited & bit and (negated is not matched or not test(path)):
                continue
            decided |= bit
            last, matched = index, not negated
        return decided, last

    def _judge_directories(self, directory: str) -> _Verdict:
        if len(self._directories) > _MAX_DIRECTORIES:
            self._directories = {"": _NO_MATCH}
        known = self._directories
        end = 0
        last = _NO_MATCH
        while end >= 0:  # from the top down, so that each finds the one above it
            end = directory.find("/", end + 1)
            above = directory if end < 0 else directory[:end]
            last = known[above] = self._judge(above)
        return last


_Verdict = tuple[int, int]  # the patterns that decided, as bits; the last of them, or -1
_NO_MATCH: _Verdict = (0, -1)


class _Kind(Enum):
    CHAR = "this character"
    ONE = "one character of some kind"
    STAR = "anything up to a slash"
    DEEP = "any directories, or none"
    REST = "anything"


_Token = tuple[_Kind, str]  # the kind; the character, or a regular expression for it

_STAR: _Token = (_Kind.STAR, "[^/]*")
_DEEP: _Token = (_Kind.DEEP, "(?:.*/)?")
_REST: _Token = (_Kind.REST, ".*")
_ANY_BUT_SLASH: _Token = (_Kind.ONE, "[^/]")


class _Shape(Enum):
    """Patterns of common shapes are tested without a regular expression."""

    EXACT = "path == text"
    NAME = "the last component == text"
    SUFFIX = "path ends with text"
    PREFIX = "path starts with text"
    REGEX = "text is a regular expression"


@record
class _Compiled:
    place: int  # in the list as given
    negated: bool
    shape: _Shape
    text: str
    test: Callable[[str], object]  # truthy when the pattern matches the path itself
    parts: tuple[str, ...]  # the pattern's components


def _compile_all(patterns: Sequence[str]) -> Iterator[_Compiled]:
    for place, written in enumerate(patterns):
        pattern = written.strip(_SPACE)
        if not pattern:
            continue
        pattern = clean(pattern)
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:]
            if not pattern:
                raise UsageError('illegal exclusion pattern: "!"', hint="write the pattern right behind the !")
        shape, text = _shape(_tokens(pattern, written, deep=True))
        yield _Compiled(place, negated, shape, text, _test(shape, text), tuple(pattern.split("/")))


def _shape(tokens: list[_Token]) -> tuple[_Shape, str]:
    kinds = {kind for kind, _ in tokens}
    if kinds <= {_Kind.CHAR}:
        return _Shape.EXACT, _text(tokens)
    first, rest = tokens[0][0], tokens[1:]
    if first is _Kind.REST and {kind for kind, _ in rest} <= {_Kind.CHAR}:
        return _Shape.SUFFIX, _text(rest)
    if tokens[-1][0] is _Kind.REST and {kind for kind, _ in tokens[:-1]} == {_Kind.CHAR}:
        return _Shape.PREFIX, _text(tokens[:-1])
    if first is _Kind.DEEP:
        star = rest[:1] == [_STAR]
        literal = rest[1:] if star else rest
        if {kind for kind, _ in literal} == {_Kind.CHAR} and "/" not in _text(literal):
            return (_Shape.SUFFIX if star else _Shape.NAME), _text(literal)
    return _Shape.REGEX, _regex(tokens)


def _test(shape: _Shape, text: str) -> Callable[[str], object]:
    if shape is _Shape.EXACT:
        return text.__eq__
    if shape is _Shape.NAME:
        return lambda path: path.rpartition("/")[2] == text
    if shape is _Shape.SUFFIX:
        return lambda path: path.endswith(text)
    if shape is _Shape.PREFIX:
        return lambda path: path.startswith(text)
    return re.compile(text, re.DOTALL).fullmatch


def _quick_test(compiled: Sequence[_Compiled]) -> Callable[[str, str], object]:
    """A test of a path and its last component that is true whenever any of the patterns matches the path."""

    def texts(shape: _Shape) -> list[str]:
        return list(dict.fromkeys(one.text for one in compiled if one.shape is shape))

    exact = frozenset(texts(_Shape.EXACT))
    names = frozenset(texts(_Shape.NAME))
    suffixes = tuple(texts(_Shape.SUFFIX))
    prefixes = tuple(texts(_Shape.PREFIX))
    regexes = texts(_Shape.REGEX)
    if not regexes:
        return lambda path, name: path in exact or name in names or path.endswith(suffixes) or path.startswith(prefixes)
    regex = re.compile("|".join(f"(?:{text})" for text in regexes), re.DOTALL).fullmatch
    return lambda path, name: (
        path in exact or name in names or path.endswith(suffixes) or path.startswith(prefixes) or regex(path)
    )


def _may_match_below(pattern: tuple[str, ...], directory: list[str]) -> bool:
    for part, name in zip(pattern, directory, strict=False):
        if "**" in part or "[" in part or "\\" in part:
            return True  # a bracket may hold a slash, which this comparison cannot see
        if not match(part, name):
            return False
    return len(pattern) > len(directory)


@lru_cache(maxsize=256)
def _compile_match(pattern: str) -> re.Pattern[str]:
    return re.compile(_regex(_tokens(pattern, pattern, deep=False)), re.DOTALL)


def _tokens(pattern: str, written: str, *, deep: bool) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if deep and pattern.startswith("**", at):
            at += 2
            slash = pattern.startswith("/", at)
            at += slash
            # In front of plain text `**` without a slash is "ends with", as if it were the suffix alone.
            ends_with = not tokens and not slash and not has_wildcard(pattern[at:])
            tokens.append(_REST if at == len(pattern) or ends_with else _DEEP)
            continue
        at += 1
        if char == "*":
            tokens.append(_STAR)
        elif char == "?":
            tokens.append(_ANY_BUT_SLASH)
        elif char == "[":
            regex, at = _bracket(pattern, at, written)
            tokens.append((_Kind.ONE, regex))
        elif char == "\\":
            if at == len(pattern):
                raise _malformed(written, "a backslash at the end escapes nothing")
            tokens.append((_Kind.CHAR, pattern[at]))
            at += 1
        else:
            tokens.append((_Kind.CHAR, char))
    return tokens


def _bracket(pattern: str, at: int, written: str) -> tuple[str, int]:
    """The class whose `[` is just before `at` as a regular expression, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _bracket_char(pattern, at, written)
        high = low
        if pattern.startswith("-", at):
            high, at = _bracket_char(pattern, at + 1, written)
        ranges.append((low, high))
    inner = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in ranges if low <= high)
    if not inner:  # only ranges that run backwards
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{inner}]", at + 1


def _bracket_char(pattern: str, at: int, written: str) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    elif char in ("-", "]"):
        char = ""
    if not char:
        raise _malformed(written, "[ without its ], or nothing between them")
    return char, at + 1


def _regex(tokens: list[_Token]) -> str:
    """The whole pattern as a regular expression for `fullmatch`.

    Between two stars of one component the earliest place for the text is as good as
    any, so it is taken for good (`(?>…)`): without that, a handful of stars would
    make a mismatch take minutes. The same holds for text with a slash at its end
    between two `**`. Not where a bracket might match a slash: there a later place
    can be the better one.
    """
    pieces = _pieces(tokens)
    may_commit = not any(kind is _Kind.ONE and value != _ANY_BUT_SLASH[1] for kind, value in tokens)
    out = []
    for number, (wild, text, ends_in_slash) in enumerate(pieces):
        following = pieces[number + 1][0] if number + 1 < len(pieces) else None
        if wild is _STAR and following is _STAR and may_commit:
            out.append(f"(?>[^/]*?{text})")
        elif wild is _DEEP and following in (_DEEP, _REST) and ends_in_slash and may_commit:
            out.append(f"(?>(?:.*?/)??{text})")
        else:
            out.append((wild[1] if wild else "") + text)
    return "".join(out)


def _pieces(tokens: list[_Token]) -> list[tuple[_Token | None, str, bool]]:
    """Each wildcard with the text up to the next one as a regular expression, and whether that ends in a slash."""
    pieces: list[tuple[_Token | None, str, bool]] = [(None, "", False)]
    for token in tokens:
        kind, value = token
        if kind in (_Kind.STAR, _Kind.DEEP, _Kind.REST):
            pieces.append((token, "", False))
        else:
            wild, text, _ = pieces[-1]
            pieces[-1] = (wild, text + (re.escape(value) if kind is _Kind.CHAR else value), value == "/")
    return pieces


def _text(tokens: list[_Token]) -> str:
    return "".join(value for _, value in tokens)


def _malformed(pattern: str, why: str) -> UsageError:
    return UsageError(f'syntax error in pattern "{pattern}"', hint=why)
