"""A logical line split into keyword, flags and the rest: what is known before the instruction is understood.

That much tells whether bodies of heredocs follow the line. What the rest of it
means is `grammar`'s; the pieces that several instructions have in common are here.
"""

from __future__ import annotations

from knarr.errors import DockerfileError, Span
from knarr.frontend.dockerfile.heredoc import heredocs_of
from knarr.frontend.dockerfile.instructions import CommandLine, Heredoc
from knarr.frontend.dockerfile.words import SPACE, json_list, split_blanks, split_first, split_flags
from knarr.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class Common(TypedDict):
        """The fields of `Instruction`."""

        span: Span
        original: str
        written: str
        comments: tuple[str, ...]


_TAKES_HEREDOC = frozenset(("RUN", "COPY", "ADD"))


@record
class Statement:
    """A line split into its parts, not yet understood."""

    line: str
    span: Span
    written: str  # the keyword as the user wrote it
    flags: tuple[str, ...]
    rest: str  # everything behind the flags, stripped
    escape: str
    comments: tuple[str, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def keyword(self) -> str:
        return self.written.upper()

    def opened_heredocs(self) -> list[Heredoc]:
        """The heredocs whose bodies follow this line, without content."""
        if "<<" not in self.line:
            return []
        inner = split(self.rest, self.span, self.escape) if self.keyword == "ONBUILD" and self.rest else self
        if inner.keyword not in _TAKES_HEREDOC or json_list(inner.rest) is not None:
            return []
        return heredocs_of(self.line)


def split(line: str, span: Span, escape: str, comments: tuple[str, ...] = ()) -> Statement:
    """Split a logical line. Never fails: every text has a first word, if an empty one."""
    written, tail = split_first(line.strip(SPACE))
    if tail is None:
        return Statement(line, span, written, (), "", escape, comments)
    if not tail.startswith("--"):
        return Statement(line, span, written, (), tail.strip(SPACE), escape, comments)
    flags, rest = split_flags(tail, escape)
    return Statement(line, span, written, tuple(flags), rest.strip(SPACE), escape, comments)


def common(statement: Statement) -> Common:
    """The fields that every instruction has, as keyword arguments."""
    return {
        "span": statement.span,
        "original": statement.line.strip(SPACE),
        "written": statement.written,
        "comments": statement.comments,
    }


def doc_of(comments: tuple[str, ...], name: str) -> str:
    """What follows `name` in the comment line that begins with it, or ""."""
    prefix = name + " "
    return next((line[len(prefix) :] for line in comments if name and line.startswith(prefix)), "")


def command_line(rest: str) -> CommandLine:
    """A JSON list as exec form, anything else as shell form."""
    args = json_list(rest)
    if args is not None:
        return CommandLine(args, shell=False)
    return CommandLine((rest,) if rest else (), shell=True)


def list_or_blanks(rest: str) -> tuple[str, ...]:
    """The items of a JSON list, or the words of a plain line."""
    words = json_list(rest)
    if words is not None:
        return words
    return tuple(split_blanks(rest)) if rest else ()


_USAGE = {
    "ARG": "ARG NAME, or ARG NAME=default",
    "ENV": "ENV NAME=value",
    "EXPOSE": "EXPOSE 8080, or EXPOSE 53/udp",
    "HEALTHCHECK": "HEALTHCHECK CMD command, or HEALTHCHECK NONE",
    "LABEL": "LABEL name=value",
    "MAINTAINER": "LABEL org.opencontainers.image.authors=name in its place",
    "ONBUILD": "ONBUILD INSTRUCTION, to be carried out in images built on this one",
    "SHELL": 'SHELL ["/bin/bash", "-c"]',
    "STOPSIGNAL": "STOPSIGNAL SIGTERM",
    "USER": "USER name, or USER 1000:1000",
    "VOLUME": "VOLUME /path",
    "WORKDIR": "WORKDIR /path",
}


def lacking(keyword: str, what: str) -> DockerfileError:
    """The complaint about arguments that are not there."""
    return DockerfileError(f"{keyword} requires {what}", hint=_USAGE[keyword])
