"""Bytes into logical lines: continuations joined, comments dropped, heredoc bodies cut out.

The lexer is pulled: only whoever understands an instruction knows whether
lines of a heredoc follow it, and asks for them with `take_heredoc` before the
next line.
"""

from __future__ import annotations

from collections.abc import Iterator

from knarr.errors import DockerfileError, Excerpt, Span
from knarr.frontend.dockerfile.directives import escape_character, read_directives
from knarr.frontend.dockerfile.instructions import Directive, Heredoc
from knarr.frontend.dockerfile.words import SPACE
from knarr.record import record, replace

_BOM = "\ufeff"


@record
class LogicalLine:
    """One instruction's text, continuation lines joined without a separator."""

    text: str
    first: int  # line numbers, 1-based
    last: int
    comments: tuple[str, ...] = ()  # above it, without `#`; a bare `#` line separates
    empty_continuation: bool = False  # a blank line inside, which only old builders allowed


class Lexer:
    """Iterate over it once. `line_number` is the last line that was read."""

    def __init__(self, data: bytes, filename: str) -> None:
        if b"\0" in data:
            raise DockerfileError(
                "a binary file, not a Dockerfile",
                hint="name the Dockerfile with --file",
                span=Span(filename, 1, 1),
                excerpt=Excerpt(),
            )
        # Bytes that are not UTF-8 may stand in comments, and only there.
        text = data.decode("utf-8", "surrogateescape").removeprefix(_BOM)
        self._is_utf8 = _is_encodable(text)
        self.filename = filename
        self.lines = text.split("\n")
        if self.lines[-1] == "":
            self.lines.pop()
        self.directives: tuple[Directive, ...] = read_directives(self.lines, filename)
        self.escape = escape_character(self.directives, self.lines)
        self.line_number = 0

    @property
    def excerpt(self) -> Excerpt:
        """The source for error messages."""
        if self._is_utf8:
            return Excerpt(tuple(self.lines))
        return Excerpt(tuple(_printable(line) for line in self.lines))

    def __iter__(self) -> Iterator[LogicalLine]:
        directive_lines = {directive.span.first for directive in self.directives}
        comments: list[str] = []
        lines = self.lines
        while self.line_number < len(lines):
            raw = lines[self.line_number]
            line = raw.lstrip(SPACE)
            self.line_number += 1
            if not line:
                continue
            if line[0] != "#":
                yield self._logical_line(tuple(comments))
                comments.clear()
            # BuildKit takes away the first character, be it the `#` or a blank before
            # it: an indented comment describes nothing and steers no check.
            elif comment := raw[1:].strip(SPACE):
                if self.line_number not in directive_lines:
                    comments.append(_printable(comment))
            else:
                comments.clear()

    def take_heredoc(self, opened: Heredoc) -> Heredoc:
        """Read the body of a heredoc up to its terminator.

        Raises:
            DockerfileError: the file ends before the terminator.
        """
        body: list[str] = []
        first = self.line_number
        for number in range(first, len(self.lines)):
            line = self.lines[number]
            end = line.rstrip("\r")
            if (end.lstrip("\t") if opened.chomp else end) == opened.name:
                self.line_number = number + 1
                content = "".join(body)
                self._require_utf8(content, first + 1)
                return replace(opened, content=content)
            body.append(line + "\n")
        self.line_number = len(self.lines)
        raise DockerfileError(
            f"unterminated heredoc {opened.name}",
            hint=f"end it with a line that has {opened.name} and nothing else",
        )

    def _logical_line(self, comments: tuple[str, ...]) -> LogicalLine:
        first = self.line_number
        text, more = self._without_continuation(self.lines[first - 1].lstrip(SPACE).rstrip("\r"))
        if not more:
            self._require_utf8(text, first)
            return LogicalLine(text, first, first, comments)
        parts = [text]
        empty = False
        while more and self.line_number < len(self.lines):
            raw = self.lines[self.line_number].rstrip("\r")
            self.line_number += 1
            bare = raw.lstrip(SPACE)
            if not bare:
                empty = True
            elif bare[0] != "#":
                part, more = self._without_continuation(raw)
                parts.append(part)
        text = "".join(parts)
        self._require_utf8(text, first)
        return LogicalLine(text, first, self.line_number, comments, empty)

    def _without_continuation(self, line: str) -> tuple[str, bool]:
        """The line without a trailing escape character, and whether there was one.

        An escape character before it takes its power away; how many there are is
        not counted, so three in a row do not continue the line either. BuildKit
        does the same.
        """
        trimmed = line.rstrip(" \t")
        if trimmed.endswith(self.escape) and trimmed[-2:-1] != self.escape:
            return trimmed[:-1], True
        return line, False

    def _require_utf8(self, text: str, line: int) -> None:
        if not self._is_utf8 and not _is_encodable(text):
            raise DockerfileError(
                "the text is not UTF-8",
                hint="save the file in UTF-8",
                span=Span(self.filename, line, self.line_number),
                excerpt=self.excerpt,
            )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
