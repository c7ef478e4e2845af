"""Parser directives: `# syntax=`, `# escape=` and `# check=` in the first lines of a file.

The zone ends at the first line that is not a known directive, be it an
unknown key, a comment, a blank line or an instruction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from knarr.errors import DockerfileError, Excerpt, Span
from knarr.frontend.dockerfile.instructions import Directive
from knarr.frontend.dockerfile.words import SPACE
from knarr.regex import later

KNOWN = ("syntax", "escape", "check")

_DIRECTIVE = later(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*([^\n]+?)[\t\n\f\r ]*")
_BOM = b"\xef\xbb\xbf"


def read_directives(lines: Sequence[str], filename: str, *, comment: str = "#") -> tuple[Directive, ...]:
    """The directives at the head of `lines`; a `#!` first line is skipped.

    Raises:
        DockerfileError: a directive is repeated.
    """
    found: list[Directive] = []
    first = 1 if lines and lines[0].startswith("#!") else 0
    for number in range(first, len(lines)):
        match = _match(lines[number].lstrip(SPACE).rstrip("\r\n"), comment)
        if match is None:
            break
        name, value = match
        span = Span(filename, number + 1, number + 1)
        if any(known.name == name for known in found):
            raise DockerfileError(
                f"only one {name} parser directive can be used",
                hint="one of them has to go",
                span=span,
                excerpt=Excerpt(tuple(lines)),
            )
        found.append(Directive(name, value, span))
    return tuple(found)


def escape_character(directives: Sequence[Directive], lines: Sequence[str]) -> str:
    """The character of `# escape=`, a backslash by default.

    Behind a `#!` line BuildKit heeds `syntax` and `check` but not `escape`; so do we.

    Raises:
        DockerfileError: neither a backslash nor a backtick.
    """
    for directive in directives:
        if directive.name != "escape" or lines[0].startswith("#!"):
            continue
        if directive.value not in ("\\", "`"):
            raise DockerfileError(
                f"invalid escape token '{directive.value}' does not match ` or \\",
                hint="# escape=` serves Windows paths; without the line it is \\",
                span=directive.span,
                excerpt=Excerpt(tuple(lines)),
            )
        return directive.value
    return "\\"


def detect_syntax(data: bytes) -> str:
    """The frontend image and command line that any kind of file asks for, "" for none.

    Understood are `# syntax=`, `// syntax=` and a JSON document with a member `syntax`.
    """
    data = data.removeprefix(_BOM)
    lines = data.decode("utf-8", "replace").split("\n")
    for comment in ("#", "//"):
        try:
            directives = read_directives(lines, "", comment=comment)
        except DockerfileError:
            continue  # the parser will complain, with the right file name
        for directive in directives:
            if directive.name == "syntax":
                return directive.value
    return _json_syntax(data)


def _match(line: str, comment: str) -> tuple[str, str] | None:
    if not line.startswith(comment):
        return None
    match = _DIRECTIVE.fullmatch(line[len(comment) :].lstrip(SPACE))
    if match is None:
        return None
    name = match[1].lower()
    return (name, match[2]) if name in KNOWN else None


def _json_syntax(data: bytes) -> str:
    if not data.lstrip().startswith(b"{"):
        return ""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    value = document.get("syntax") if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""
