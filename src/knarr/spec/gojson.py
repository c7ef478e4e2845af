"""JSON text as Go's encoding/json writes it: equal documents must have equal bytes, since a digest names them.

Go escapes `<`, `>`, `&` and the two line separators of JavaScript in strings;
none of them occurs in JSON outside strings.
"""

from __future__ import annotations

import json

_ESCAPED = tuple((character, f"\\u{ord(character):04x}") for character in "<>&\u2028\u2029")


def dump(document: object, *, indent: int | None = None) -> bytes:
    """The document, members in the order given; compact without `indent`."""
    text = json.dumps(document, indent=indent, separators=None if indent else (",", ":"), ensure_ascii=False)
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return text.encode()
