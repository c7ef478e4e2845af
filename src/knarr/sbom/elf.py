"""Sections and segments of an ELF file: where build information may be. Format: System V ABI, chapter 4."""

from __future__ import annotations

import struct
from typing import BinaryIO

from knarr.record import record

MAGIC = b"\x7fELF"
_MOST = 10_000  # sections or segments; the largest programs have a few hundred
_LONGEST = 1 << 20  # bytes of all names
_LOAD, _NOBITS = 1, 8


@record
class Part:
    """A section or a loaded segment: where its bytes are in the file, and in memory."""

    name: str
    address: int
    offset: int
    size: int


@record
class Elf:
    """What is needed of a file's headers."""

    big_endian: bool
    wide: bool  # 64 bits
    sections: tuple[Part, ...]
    segments: tuple[Part, ...]

    def section(self, name: str) -> Part | None:
        """The section of that name."""
        return next((one for one in self.sections if one.name == name), None)

    def size_of(self, name: str, most: int) -> int:
        """`most` if there is a section of that name, whose content may unpack to as much; else 0."""
        return most if self.section(name) else 0

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte is that is loaded to `address`."""
        for part in self.segments:
            if part.address <= address < part.address + part.size:
                return part.offset + address - part.address
        return None


def parse(file: BinaryIO) -> Elf | None:
    """The headers of an ELF file; None when it is none, or damaged."""
    try:
        return _parse(file)
    except (struct.error, ValueError, OverflowError, OSError):
        return None


def _parse(file: BinaryIO) -> Elf | None:
    ident = _at(file, 0, 16)
    if ident[:4] != MAGIC or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        return None
    wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
    layout = struct.Struct(f"{order}{'HHIQQQIHHHHHH' if wide else 'HHIIIIIHHHHHH'}")
    (_, _, _, _, at_segments, at_sections, _, _, segment_size, segments, section_size, sections, names) = layout.unpack(
        _at(file, 16, layout.size)
    )
    if max(segments, sections) > _MOST:
        return None
    found = _sections(file, order, wide, at_sections, section_size, sections, names)
    return Elf(order == ">", wide, found, _segments(file, order, wide, at_segments, segment_size, segments))


def _sections(file: BinaryIO, order: str, wide: bool, at: int, size: int, count: int, names: int) -> tuple[Part, ...]:
    layout = struct.Struct(f"{order}{'IIQQQQ' if wide else 'IIIIII'}")
    if not at or size < layout.size or not count:
        return ()
    table = _at(file, at, size * count)
    rows = [layout.unpack_from(table, number * size) for number in range(count)]
    if names >= count:
        return ()
    texts = _at(file, rows[names][4], min(rows[names][5], _LONGEST))
    return tuple(
        Part(_name(texts, name), address, offset, length)
        for name, kind, _, address, offset, length in rows
        if kind != _NOBITS
    )


def _segments(file: BinaryIO, order: str, wide: bool, at: int, size: int, count: int) -> tuple[Part, ...]:
    layout = struct.Struct(f"{order}{'IIQQQQ' if wide else 'IIIIII'}")
    if not at or size < layout.size:
        return ()
    table = _at(file, at, size * count)
    found = []
    for number in range(count):
        row = layout.unpack_from(table, number * size)
        # 32 bits: type, offset, address, physical, size; 64 bits: type, flags, offset, address, physical, size.
        kind, offset, address, length = (row[0], row[2], row[3], row[5]) if wide else (row[0], row[1], row[2], row[4])
        if kind == _LOAD:
            found.append(Part("", address, offset, length))
    return tuple(found)


def _name(texts: bytes, at: int) -> str:
    return texts[at : texts.find(b"\0", at)].decode("utf-8", "replace") if at < len(texts) else ""


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Exactly `size` bytes from `offset`.

    Raises:
        ValueError: the file ends before.
    """
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file is cut short")
    return data
