"""JSON text as Go's encoding/json writes it: equal documents must have equal bytes, since a digest names them.

Go escapes `<`, `>`, `&` and the two line separators of JavaScript in strings;
none of them occurs in JSON outside strings.
"""

from __future__ import annotations

import json
import re

_TOKENS = rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+'  # compiled when it is first needed, since most builds never do
_ESCAPED = tuple((character, f"\\u{ord(character):04x}") for character in "<>&\u2028\u2029")


def dump(document: object, *, indent: int | str | None = None) -> bytes:
    """The document, members in the order given; compact without `indent`."""
    text = json.dumps(document, indent=indent, separators=None if indent else (",", ":"), ensure_ascii=False)
    return _escaped(text).encode()


def compact(raw: bytes) -> bytes:
    """JSON text without the spaces between its tokens; numbers and strings stay as they were written.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        json.loads(raw, parse_constant=_refuse)
        text = re.sub(_TOKENS, lambda match: match[1] or b"", raw).decode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return _escaped(text).encode()


def _refuse(word: str) -> object:
    raise ValueError(f"{word} is not a number")


def _escaped(text: str) -> str:
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return text
