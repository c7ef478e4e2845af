"""Variables and quotes in the words of a Dockerfile: `$name`, `${name:-word}`, `'…'`, `"…"`, escapes.

Written after what BuildKit's shell lexer accepts, not after a shell: there is
no field splitting but the one `words` does, `${name:=word}` is an error, and
`$$`, `$1` or `$@` are names like any other.

    >>> Expander().word("${HOME:-/root}/${V%.*}", {"V": "1.2"}).text
    '/root/1'

Spec: Dockerfile reference 1.26, "Environment replacement"; POSIX.1-2017 XCU 2.6.2 for the operators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.words import SPACE
from knarr.record import field, record
from knarr.regex import later

if TYPE_CHECKING:
    from knarr.frontend.dockerfile.shellpattern import Pattern

MAX_TEXT = 16 * 2**20  # characters put in for variables; some lines of ENV a=$a$a could otherwise fill the memory
MAX_DEPTH = 64  # of ${a:-${b:-…}}; each level takes six Python frames

_BOM = "\ufeff"  # what Go's text/scanner passes over at the head of a text
_SPACES = later(f"[{SPACE}]+")
_SPECIAL_NAMES = frozenset("@*#?-$!0")


@record
class Expansion:
    """What a word became, and the names it asked for: `used` had a value, `unset` had none."""

    text: str
    used: frozenset[str] = frozenset()
    unset: frozenset[str] = frozenset()


@record
class Expander:
    """How to expand. The four switches are off for instructions; heredocs need them.

    `keep_unset` leaves references to unset names as they are.
    """

    escape: str = "\\"
    raw_quotes: bool = field(default=False, kw_only=True)  # quotes stay in the result
    raw_escapes: bool = field(default=False, kw_only=True)  # escape characters stay in the result
    ignore_quotes: bool = field(default=False, kw_only=True)  # quotes are plain characters
    keep_unset: bool = field(default=False, kw_only=True)

    def word(self, text: str, env: Mapping[str, str]) -> Expansion:
        """Expand `text` to one word, its white space kept.

        Raises:
            DockerfileError: bad syntax, or a `${name:?message}` whose name has no value. No span yet.
        """
        text = text.removeprefix(_BOM)
        if not _special(self.escape).search(text):
            return Expansion(text)
        scan = _Scan(self, text, env, words=None)
        result = scan.run()
        return Expansion(result, frozenset(scan.used), frozenset(scan.unset))

    def words(self, text: str, env: Mapping[str, str]) -> list[str]:
        """Expand `text` and split it at white space outside quotes; values of variables are split as well."""
        text = text.removeprefix(_BOM)
        if not _special(self.escape).search(text) and "<<" not in text:
            return [word for word in _SPACES.split(text) if word]
        words: list[str] = []
        _Scan(self, text, env, words=words).run()
        return words


HEREDOC_BODY = Expander(ignore_quotes=True)  # always with a backslash, whatever the escape directive says


def process_word(word: str, env: Mapping[str, str], *, escape: str = "\\") -> str:
    """Expand one word, quotes removed. See `Expander.word`."""
    return Expander(escape).word(word, env).text


def process_words(word: str, env: Mapping[str, str], *, escape: str = "\\") -> list[str]:
    """Expand and split. See `Expander.words`."""
    return Expander(escape).words(word, env)


@lru_cache(maxsize=2)
def _special(escape: str) -> re.Pattern[str]:
    return re.compile(f"[$'\"{re.escape(escape)}]")


@lru_cache(maxsize=32)
def _plain(specials: str) -> re.Pattern[str]:
    return re.compile(f"[^{re.escape(specials)}]+")


class _Scan:
    """One pass over one text: `pos` only moves forward."""

    def __init__(self, how: Expander, text: str, env: Mapping[str, str], words: list[str] | None) -> None:
        self.how = how
        self.text = text
        self.env = env
        self.pos = 0
        self.depth = 0
        self.size = 0
        self.raw_escapes = how.raw_escapes
        self.used: set[str] = set()
        self.unset: set[str] = set()
        self.words = words
        self.word: list[str] = []  # pieces of the word that is being put together
        self.specials = "$<" + how.escape + ("" if how.ignore_quotes else "'\"")

    def run(self) -> str:
        try:
            result = self.until("")
        except DockerfileError as error:
            shown = self.text if len(self.text) <= 200 else self.text[:200] + "…"
            raise DockerfileError(f'failed to process "{shown}": {error.message}', hint=error.hint) from None
        self.end_word()
        return result

    def until(self, stop: str) -> str:
        """Expand up to and including the character `stop`, or to the end when `stop` is ""."""
        out: list[str] = []
        plain = _plain(self.specials + stop)
        text = self.text
        while self.pos < len(text):
            if run := plain.match(text, self.pos):
                self.pos = run.end()
                self.put(out, run.group(), split=True)
                continue
            char = text[self.pos]
            self.pos += 1
            if char == stop:
                return "".join(out)
            if char == "$":
                self.put(out, self.dollar(), split=True)
            elif char == "'":
                self.put(out, self.single_quoted(), split=False)
            elif char == '"':
                self.put(out, self.double_quoted(), split=False)
            elif char == "<":
                self.put(out, self.less_than(), split=False)
            else:
                self.put(out, self.escaped(), split=False)
        if stop:
            raise DockerfileError(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def put(self, out: list[str], piece: str, *, split: bool) -> None:
        out.append(piece)
        if self.words is None or self.depth:
            return
        if not split:
            self.word.append(piece)
            return
        first, *more = _SPACES.split(piece)
        self.word.append(first)
        for part in more:
            self.end_word()
            self.word.append(part)

    def end_word(self) -> None:
        if self.words is not None and (word := "".join(self.word)):
            self.words.append(word)
        self.word.clear()

    def escaped(self) -> str:
        """After an escape character outside quotes: the next character, whatever it is."""
        following = self.take()
        return self.how.escape + following if self.raw_escapes else following

    def take(self) -> str:
        char = self.text[self.pos : self.pos + 1]
        self.pos += 1
        return char

    def peek(self) -> str:
        return self.text[self.pos : self.pos + 1]

    def single_quoted(self) -> str:
        end = self.text.find("'", self.pos)
        if end < 0:
            self.pos = len(self.text)
            raise self.unclosed("single-quote", "'")
        inner = self.text[self.pos : end]
        self.pos = end + 1
        return f"'{inner}'" if self.how.raw_quotes else inner

    def double_quoted(self) -> str:
        escape = self.how.escape
        plain = _plain('"$' + escape)
        out = ['"'] if self.how.raw_quotes else []
        while self.pos < len(self.text):
            if run := plain.match(self.text, self.pos):
                self.pos = run.end()
                out.append(run.group())
                continue
            char = self.take()
            if char == '"':
                out.extend(char if self.how.raw_quotes else "")
                return "".join(out)
            if char == "$":
                out.append(self.dollar())
                continue
            # Only these three can be escaped here; any other backslash is itself.
            if self.raw_escapes:
                out.append(char)
            following = self.peek()
            if following and following in f'"${escape}':
                out.append(self.take())
            elif following:
                out.append(char)
        raise self.unclosed("double-quote", '"')

    def unclosed(self, name: str, quote: str) -> DockerfileError:
        return DockerfileError(
            f"unexpected end of statement while looking for matching {name}",
            hint=f"a quote that is meant as such is written {self.how.escape}{quote}",
        )

    def less_than(self) -> str:
        """`<<` takes the blanks after it along, so that `<< NAME` stays one word."""
        if self.peek() != "<":
            return "<"
        start = self.pos
        self.pos += 1
        while self.peek() in ("\t", "\r", " "):
            self.pos += 1
        return "<" + self.text[start : self.pos]

    def dollar(self) -> str:
        if self.peek() == "{":
            self.pos += 1
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise DockerfileError(f"${{}} nested more than {MAX_DEPTH} deep")
            try:
                return self.braced()
            finally:
                self.depth -= 1
        name = self.name()
        if not name:
            return "$"
        value = self.lookup(name)
        if value is None:
            return "$" + name if self.how.keep_unset else ""
        return value

    def name(self) -> str:
        """A name: letters, digits and `_`; or a run of digits; or one special parameter."""
        text, start = self.text, self.pos
        first = text[start : start + 1]
        if first in _SPECIAL_NAMES and first != "0":
            self.pos += 1
            return first
        only_digits = first.isdecimal()
        end = start
        while end < len(text) and ((char := text[end]).isdecimal() or (not only_digits and _is_letter(char))):
            end += 1
        self.pos = end
        return text[start:end]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unset if value is None else self.used).add(name)
        self.grow(len(value or ""))
        return value

    def grow(self, size: int) -> None:
        self.size += size
        if self.size > MAX_TEXT:
            raise DockerfileError(f"the result would be longer than {MAX_TEXT} characters")

    def braced(self) -> str:
        """After `${`."""
        following = self.peek()
        if not following:
            raise _missing("}")
        if following in "{}:":
            hint = f"${{NAME}}; a $ that is meant as such is written {self.how.escape}$"
            raise DockerfileError("syntax error: bad substitution", hint=hint)
        name = self.name()
        operator = self.take()
        if operator == "}":
            value = self.lookup(name)
            if value is None:
                return f"${{{name}}}" if self.how.keep_unset else ""
            return value
        if operator == "/":
            return self.replaced(name)
        colon = operator == ":"
        if colon:
            operator = self.take()
        if not operator:
            raise _missing("}")
        if operator in "#%" and not colon:
            return self.trimmed(name, operator)
        if operator in "#%" or (operator not in "+-?" and not colon):
            raise _unsupported(operator, colon=colon)
        return self.chosen(name, operator, colon=colon)

    def chosen(self, name: str, operator: str, *, colon: bool) -> str:
        """`-`, `+` and `?`; with a colon an empty value counts as none."""
        word = self.operand("}", raw_escapes=False)
        value = self.lookup(name)
        if value is None and self.how.keep_unset:
            # Before the operator is looked at: a RUN may use those that only its shell knows.
            return f"${{{name}{':' if colon else ''}{operator}{word}}}"
        if operator not in "+-?":
            raise _unsupported(operator, colon=colon)
        present = value is not None and not (colon and value == "")
        if operator == "+":
            return word if present else ""
        if value is not None and present:
            return value
        if operator == "-":
            return word
        fallback = "is not allowed to be unset" if value is None else "is not allowed to be empty"
        hint = f"ARG {name} above this line and --build-arg {name}=value, or ENV {name}=value"
        raise DockerfileError(f"{name}: {word or fallback}", hint=hint)

    def trimmed(self, name: str, operator: str) -> str:
        word = self.operand("}", raw_escapes=True)
        value = self.lookup(name)
        if value is None and self.how.keep_unset:
            return f"${{{name}{operator}{word}}}"
        longest = word.startswith(operator)
        pattern = _pattern(word[1:] if longest else word)
        if operator == "#":
            return pattern.trim_prefix(value or "", longest=longest)
        return pattern.trim_suffix(value or "", longest=longest)

    def replaced(self, name: str) -> str:
        every = self.peek() == "/"
        self.pos += every
        old = self.operand("/", raw_escapes=True)
        new = self.operand("}", raw_escapes=True)
        value = self.lookup(name)
        if value is None and self.how.keep_unset:
            return f"${{{name}/{old}/{new}}}"
        if every:
            self.grow(len(new) * len(value or ""))  # at most one match per character
        return _pattern(old).replace(value or "", new, every=every)

    def operand(self, stop: str, *, raw_escapes: bool) -> str:
        before = self.raw_escapes
        self.raw_escapes = raw_escapes
        try:
            return self.until(stop)
        except DockerfileError:
            if self.pos >= len(self.text):
                raise _missing(stop) from None
            raise
        finally:
            self.raw_escapes = before


def _is_letter(char: str) -> bool:
    return char == "_" or char.isalpha()


def _missing(stop: str) -> DockerfileError:
    where = "" if stop == "}" else " in ${}"
    return DockerfileError(
        f"syntax error: missing '{stop}'{where}",
        hint="a blank ends a word, also between braces: put it in double quotes",
    )


def _unsupported(operator: str, *, colon: bool) -> DockerfileError:
    return DockerfileError(
        f"unsupported modifier ({':' if colon else ''}{operator}) in substitution",
        hint="known are :- :+ :? - + ? # ## % %% / and //",
    )


def _pattern(text: str) -> Pattern:
    from knarr.frontend.dockerfile.shellpattern import compile_pattern

    try:
        return compile_pattern(text)
    except ValueError as error:
        raise DockerfileError(f"invalid pattern ({text}) in substitution: {error}") from error
