"""Crates in a program made by `cargo auditable` 0.6: the section `.dep-v0`, JSON packed by zlib."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from knarr.sbom.elf import Elf
from knarr.sbom.package import Package


def read(file: BinaryIO, elf: Elf, path: str, limit: int) -> Iterator[Package]:
    """The crates that the program was made of; those that only helped to make it are left out."""
    section = elf.section(".dep-v0")
    if section is None or section.size > limit:
        return
    file.seek(section.offset)
    try:
        unpack = zlib.decompressobj()
        raw = unpack.decompress(file.read(section.size), limit)
        data = json.loads(raw) if unpack.eof else None
    except (zlib.error, ValueError, RecursionError):
        return
    crates = data.get("packages") if isinstance(data, dict) else None
    for crate in crates if isinstance(crates, list) else ():
        if isinstance(crate, dict) and crate.get("kind", "runtime") == "runtime":
            yield from _crate(crate, path)


def _crate(crate: dict[str, Any], path: str) -> Iterator[Package]:
    name, version = crate.get("name"), crate.get("version")
    if isinstance(name, str) and name and isinstance(version, str):
        yield Package("cargo", name, version, evidence=(path,))
