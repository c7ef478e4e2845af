"""What compilers leave in programs, in ELF files made here byte by byte."""

from __future__ import annotations

import io
import json
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.sbom import elf, gobinary, rust

MODULES = "path\texample.com/app\nmod\texample.com/app\tv1.2.3\th1:x\ndep\tgolang.org/x/sys\tv0.1.0\th1:y\n"
REPLACED = "dep\texample.com/old\tv1.0.0\n=>\texample.com/new\tv1.0.1\th1:z\n"


def program(sections: dict[str, bytes], *, wide: bool = True, order: str = "<") -> bytes:
    """An ELF file with these sections, each loaded at 0x400000 plus its place in the file."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    head_size, section_size, segment_size = (64, 64, 56) if wide else (52, 40, 32)
    body, at, rows = b"", head_size + segment_size, []
    for name, content in [*sections.items(), (".shstrtab", names)]:
        pad = -at % 16
        body, at = body + b"\0" * pad + content, at + pad
        rows.append((names.find(f"\0{name}\0".encode()) + 1, 1, at, len(content)))
        at += len(content)
    form = f"{order}{'IIQQQQIIQQ' if wide else 'IIIIIIIIII'}"
    table = struct.pack(form, *[0] * 10) + b"".join(
        struct.pack(form, name, kind, 0, 0x400000 + start, start, size, 0, 0, 0, 0) for name, kind, start, size in rows
    )
    ident = elf.MAGIC + bytes((2 if wide else 1, 1 if order == "<" else 2, 1)) + b"\0" * 9
    head = struct.pack(
        f"{order}{'HHIQQQIHHHHHH' if wide else 'HHIIIIIHHHHHH'}",
        *(2, 62, 1, 0, head_size, at, 0, head_size, segment_size, 1, section_size, len(rows) + 1, len(rows)),
    )
    if wide:
        segment = struct.pack(f"{order}IIQQQQQQ", 1, 4, 0, 0x400000, 0, at, at, 16)
    else:
        segment = struct.pack(f"{order}IIIIIIII", 1, 0, 0x400000, 0, at, at, 4, 16)
    return ident + head + segment + body + table


def framed(text: str) -> bytes:
    return b"\x01" * 16 + text.encode() + b"\x02" * 16


def varint(data: bytes) -> bytes:
    size, out = len(data), b""
    while size >= 0x80:
        out, size = out + bytes([size & 0x7F | 0x80]), size >> 7
    return out + bytes([size]) + data


def build_info(text: str) -> bytes:
    return b"\xff Go buildinf:" + bytes((8, 2)) + b"\0" * 16 + varint(b"go1.22.1") + varint(framed(text))


def modules(raw: bytes) -> list[tuple[str, str, str]]:
    file = io.BytesIO(raw)
    headers = elf.parse(file)
    assert headers is not None
    return [(one.namespace, one.name, one.version) for one in gobinary.read(file, headers, "x", 1 << 20)]


EXPECTED = [("example.com", "app", "v1.2.3"), ("golang.org/x", "sys", "v0.1.0"), ("", "stdlib", "1.22.1")]


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_modules_of_a_go_program(wide: bool, order: str) -> None:
    assert modules(program({".text": b"x", ".go.buildinfo": build_info(MODULES)}, wide=wide, order=order)) == EXPECTED


def test_a_stripped_go_program_is_searched() -> None:
    raw = bytearray(program({".text": b"x", ".go.buildinfo": build_info(MODULES)}))
    raw[60:64] = b"\0\0\0\0"  # no sections
    assert modules(bytes(raw)) == EXPECTED


def test_a_replaced_module_is_the_one_that_took_its_place() -> None:
    found = modules(program({".go.buildinfo": build_info(MODULES + REPLACED)}))
    assert ("example.com", "new", "v1.0.1") in found
    assert ("example.com", "old", "v1.0.0") not in found


@pytest.mark.parametrize("order", ["<", ">"])
def test_go_before_1_18_pointed_to_its_texts(order: str) -> None:
    version, text = b"go1.17", framed(MODULES)
    start = 64 + 56  # where the first section is put: a multiple of 8, not of 16
    start += -start % 16
    base = 0x400000 + start
    at_texts = 32 + 32
    info = b"\xff Go buildinf:" + bytes((8, int(order == ">")))
    info += struct.pack(f"{order}QQ", base + 32, base + 48)
    info += struct.pack(f"{order}QQQQ", base + at_texts, len(version), base + at_texts + len(version), len(text))
    found = modules(program({".go.buildinfo": info + version + text}, order=order))
    assert found == [*EXPECTED[:2], ("", "stdlib", "1.17")]


def crates(raw: bytes) -> list[tuple[str, str]]:
    file = io.BytesIO(raw)
    headers = elf.parse(file)
    assert headers is not None
    return [(one.name, one.version) for one in rust.read(file, headers, "x", 1 << 20)]


def test_crates_of_an_auditable_program() -> None:
    told = {"packages": [{"name": "a", "version": "1.0.0"}, {"name": "cc", "version": "1.1.0", "kind": "build"}]}
    assert crates(program({".dep-v0": zlib.compress(json.dumps(told).encode())})) == [("a", "1.0.0")]


def test_a_bomb_in_a_program_is_not_unpacked() -> None:
    assert crates(program({".dep-v0": zlib.compress(b" " * (8 << 20))})) == []


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, 300))
def test_a_damaged_program_gives_nothing_or_something_but_never_fails(junk: bytes, at: int) -> None:
    raw = bytearray(program({".go.buildinfo": build_info(MODULES), ".dep-v0": zlib.compress(b'{"packages":[]}')}))
    raw[at : at + len(junk)] = junk
    file = io.BytesIO(bytes(raw))
    headers = elf.parse(file)
    if headers is not None:
        list(gobinary.read(file, headers, "x", 1 << 16))
        list(rust.read(file, headers, "x", 1 << 16))
