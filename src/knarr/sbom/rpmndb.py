"""rpm's own database, `Packages.db` (ndb, as SUSE has it). Format: rpm's lib/backend/ndb/rpmpkg.c, version 0."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from knarr.sbom.tree import Tree

_MAGIC, _SLOT, _BLOB = b"RpmP", b"Slot", b"BlbS"
_PAGE, _BLOCK, _ENTRY = 4096, 16, 16
_HEAD = 32  # bytes, where the first two slots would be


def blobs(tree: Tree, path: str, data: bytes) -> Iterator[bytes]:
    """The header of each package, in the order of the slots."""
    if len(data) < _HEAD or data[:4] != _MAGIC:
        tree.skip(path, "not a package database of rpm's")
        return
    version, _, pages = struct.unpack_from("<III", data, 4)
    if version != 0:
        tree.skip(path, f"version {version} of the format is not known")
        return
    end = min(pages * _PAGE, len(data))
    for at in range(_HEAD, end - _ENTRY + 1, _ENTRY):
        magic, index, block, _ = struct.unpack_from("<4sIII", data, at)
        if magic != _SLOT:
            tree.skip(path, "its table of contents is damaged")
            return
        if not index:
            continue
        start = block * _BLOCK
        if start + _BLOCK > len(data):
            tree.skip(path, "an entry lies behind the end of the file")
            continue
        kind, own, _, length = struct.unpack_from("<4sIII", data, start)
        if kind != _BLOB or own != index or start + _BLOCK + length > len(data):
            tree.skip(path, "an entry is damaged")
            continue
        yield data[start + _BLOCK : start + _BLOCK + length]
