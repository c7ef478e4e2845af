"""A package as rpm's databases hold it: a header, as written by rpm 4 and later.

Two numbers (entries, bytes of data), then an index of entries (tag, type, offset,
count), then the data; all numbers big-endian. Format: rpm's docs/manual/format_header.md.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_INT16, _INT32, _STRING, _STRINGS, _I18N = 3, 4, 6, 8, 9
_MOST = 1 << 20  # values of one entry: a package of a million files

NAME, VERSION, RELEASE, EPOCH, SUMMARY = 1000, 1001, 1002, 1003, 1004
VENDOR, LICENSE, PACKAGER, URL, ARCH = 1011, 1014, 1015, 1020, 1022
FILEFLAGS, SOURCERPM, PROVIDES, REQUIRES = 1037, 1044, 1047, 1049
DIRINDEXES, BASENAMES, DIRNAMES, MODULARITY = 1116, 1117, 1118, 5096
_ABOUT = (NAME, VERSION, RELEASE, EPOCH, SUMMARY, VENDOR, LICENSE, PACKAGER, URL, ARCH, SOURCERPM, MODULARITY)
_WANTED = frozenset((*_ABOUT, FILEFLAGS, PROVIDES, REQUIRES, DIRINDEXES, BASENAMES, DIRNAMES))

Values = list[str] | list[int]


def parse(blob: bytes) -> Mapping[int, Values]:
    """The entries of a header that tell of a package.

    Raises:
        ValueError: it is none, or cut short.
    """
    if len(blob) < 8:
        raise ValueError("shorter than a header")
    entries, size = struct.unpack_from(">II", blob)
    start = 8 + entries * 16
    if not entries or entries > 65_536 or start + size > len(blob):
        raise ValueError("not a header, or cut short")
    data = memoryview(blob)[start : start + size]
    found: dict[int, Values] = {}
    for at in range(8, start, 16):
        tag, kind, offset, count = struct.unpack_from(">IIII", blob, at)
        if tag not in _WANTED or tag in found:
            continue
        if offset > size or count > _MOST:
            raise ValueError(f"entry {tag} lies outside of the header")
        found[tag] = _values(data[offset:], kind, count)
    return found


def _values(data: memoryview, kind: int, count: int) -> Values:
    if kind in (_INT16, _INT32):
        width = 2 if kind == _INT16 else 4
        if count * width > len(data):
            raise ValueError("numbers are cut short")
        return list(struct.unpack_from(f">{count}{'H' if kind == _INT16 else 'I'}", data))
    if kind in (_STRING, _STRINGS, _I18N):
        return _strings(data, 1 if kind == _STRING else count)
    return []


def _strings(data: memoryview, count: int) -> list[str]:
    # One copy of the rest would be made for each entry otherwise: look for the end first.
    raw = bytes(data[: 1 << 24])
    found, at = [], 0
    for _ in range(count):
        end = raw.find(b"\0", at)
        if end < 0:
            raise ValueError("a text never ends")
        found.append(raw[at:end].decode("utf-8", "surrogateescape"))
        at = end + 1
    return found


def text(header: Mapping[int, Values], tag: int) -> str:
    """The first value of a tag, as text that JSON can carry; empty when there is none."""
    values = header.get(tag)
    if not values:
        return ""
    first = values[0]
    if isinstance(first, int):
        return str(first)
    return "" if first == "(none)" else first.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def texts(header: Mapping[int, Values], tag: int) -> list[str]:
    """The values of a tag that are text."""
    return [value for value in header.get(tag, []) if isinstance(value, str)]


def numbers(header: Mapping[int, Values], tag: int) -> list[int]:
    """The values of a tag that are numbers."""
    return [value for value in header.get(tag, []) if isinstance(value, int)]
