"""Paragraphs of `Name: value` lines, as dpkg, Python and Java write their metadata."""

from __future__ import annotations

from collections.abc import Iterator


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Each paragraph as a mapping of lower-case names; lines that go on are joined by a newline.

    Text before the first name and lines without a colon are passed over; of a name
    that comes twice the first counts.
    """
    found: dict[str, str] = {}
    current = ""
    for line in text.splitlines():
        if not line.strip():
            if found:
                yield found
            found, current = {}, ""
        elif line[0] in " \t":
            if current:
                found[current] += "\n" + line.strip()
        else:
            name, colon, value = line.partition(":")
            key = name.strip().lower()
            current = key if colon and key not in found else ""
            if current:
                found[current] = value.strip()
    if found:
        yield found
