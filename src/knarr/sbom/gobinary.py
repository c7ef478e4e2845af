"""Modules in a program made by Go: its build information, as `go version -m` shows it.

Format: Go's debug/buildinfo, both forms: since 1.18 the texts follow the head; before, it has pointers to them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from knarr.sbom.elf import Elf
from knarr.sbom.package import Package

_MAGIC = b"\xff Go buildinf:"
_FRAME = 16  # bytes around the text of the modules
_REACH = 1 << 20  # bytes of the data segment that are looked through, where sections were stripped


def read(file: BinaryIO, elf: Elf, path: str, limit: int) -> Iterator[Package]:
    """The main module, all modules it was made of, and the standard library. Nothing for a program of another kind."""
    found = build_info(file, elf, limit)
    if found is None:
        return
    version, modules = found
    made_of: list[Package] = []
    for line in modules.splitlines():
        words = line.split("\t")
        if len(words) < 3 or words[0] not in ("mod", "dep", "=>"):
            continue
        if words[0] == "=>" and made_of:
            made_of.pop()  # `replace` in go.mod: the one before was not used
        made_of.append(_module(words[1], "" if words[2] == "(devel)" else words[2], path))
    yield from made_of
    if version.startswith("go") or made_of:
        yield Package("golang", "stdlib", version.removeprefix("go").split(" ")[0], evidence=(path,))


def _module(name: str, version: str, path: str) -> Package:
    namespace, _, short = name.rpartition("/")
    return Package("golang", short, version, namespace=namespace, evidence=(path,))


def build_info(file: BinaryIO, elf: Elf, limit: int) -> tuple[str, str] | None:
    """Go's version and the text of the modules; None when the program is not made by Go, or is damaged."""
    try:
        return _build_info(file, elf, limit)
    except (struct.error, ValueError, OverflowError, OSError, IndexError):
        return None


def _build_info(file: BinaryIO, elf: Elf, limit: int) -> tuple[str, str] | None:
    at = _place(file, elf)
    if at is None:
        return None
    head = _read(file, at, 32)
    if head[15] & 2:
        version, after = _varint_text(file, at + 32, limit)
        modules, _ = _varint_text(file, after, limit)
    else:
        width, order = head[14], ">" if head[15] & 1 else "<"
        if width not in (4, 8):
            return None
        form = f"{order}{'Q' if width == 8 else 'I'}"
        pointers = [struct.unpack_from(form, head, 16 + width * number)[0] for number in range(2)]
        version, modules = (_pointed(file, elf, pointer, form, width, limit) for pointer in pointers)
    if len(modules) >= 33 and modules[-_FRAME - 1 : -_FRAME] == b"\n":
        modules = modules[_FRAME:-_FRAME]
    else:
        modules = b""
    return version.decode("utf-8", "replace"), modules.decode("utf-8", "replace")


def _place(file: BinaryIO, elf: Elf) -> int | None:
    section = elf.section(".go.buildinfo")
    if section is not None:
        return section.offset if _read(file, section.offset, 14) == _MAGIC else None
    if elf.sections:
        return None  # it has names for its sections, and none is Go's
    for part in elf.segments:
        file.seek(part.offset)
        data = file.read(min(part.size, _REACH))
        at = data.find(_MAGIC)
        while at >= 0:
            if at % 16 == 0:
                return part.offset + at
            at = data.find(_MAGIC, at + 1)
    return None


def _varint_text(file: BinaryIO, at: int, limit: int) -> tuple[bytes, int]:
    raw = _read(file, at, 10, whole=False)
    size = shift = used = 0
    for byte in raw:
        size |= (byte & 0x7F) << shift
        shift, used = shift + 7, used + 1
        if not byte & 0x80:
            break
    if size > limit:
        raise ValueError("larger than build information is")
    return _read(file, at + used, size), at + used + size


def _pointed(file: BinaryIO, elf: Elf, pointer: int, form: str, width: int, limit: int) -> bytes:
    """A Go string: an address and a length at `pointer`."""
    at = elf.offset_of(pointer)
    if at is None:
        raise ValueError("a pointer leads out of the file")
    address, size = struct.unpack(f"{form}{form[1]}", _read(file, at, width * 2))
    start = elf.offset_of(address)
    if start is None or size > limit:
        raise ValueError("a text lies outside of the file")
    return _read(file, start, size)


def _read(file: BinaryIO, at: int, size: int, *, whole: bool = True) -> bytes:
    file.seek(at)
    data = file.read(size)
    if whole and len(data) != size:
        raise ValueError("the file is cut short")
    return data
