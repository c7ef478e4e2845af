"""Paragraphs of `Name: value` lines, as dpkg, Python and Java write their metadata."""

from __future__ import annotations

import io
from collections.abc import Iterator

_FIELDS = 1000  # of one paragraph; dpkg has forty
_LONGEST = 1 << 20  # characters of one field


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Each paragraph as a mapping of lower-case names; lines that go on are joined by a newline.

    Text before the first name and lines without a colon are passed over; of a name
    that comes twice the first counts. What is beyond a thousand fields, or beyond a
    million characters of one, nobody wrote in earnest: it is left out.
    """
    found: dict[str, list[str]] = {}
    current, size = "", 0
    for line in io.StringIO(text):
        line = line.rstrip("\r\n")
        if not line.strip():
            if found:
                yield _joined(found)
            found, current = {}, ""
        elif line[0] in " \t":
            size += len(line)
            if current and size <= _LONGEST:
                found[current].append(line.strip())
        else:
            name, colon, value = line.partition(":")
            key = name.strip().lower()
            current = key if colon and key not in found and len(found) < _FIELDS else ""
            size = len(line)
            if current:
                found[current] = [value.strip()[:_LONGEST]]
    if found:
        yield _joined(found)


def _joined(found: dict[str, list[str]]) -> dict[str, str]:
    return {name: "\n".join(lines) for name, lines in found.items()}
