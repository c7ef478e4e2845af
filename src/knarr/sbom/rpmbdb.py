"""rpm's database of before 2020, `Packages`: a hash of Berkeley DB.

Only what rpm writes is read: access method hash, no encryption, either byte order.
Format: Berkeley DB 5.3, src/dbinc/db_page.h (DBMETA, PAGE, HKEYDATA, HOFFPAGE).
A btree or a queue is no package database and is passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from knarr.sbom.tree import Tree

_HASH_MAGIC = 0x061561
_UNSORTED, _OVERFLOW, _SORTED = 2, 7, 13  # types of pages
_KEYDATA, _OFFPAGE = 1, 3  # types of items
_HEAD = 26  # bytes of a page's header


class _Damaged(ValueError):
    """The file breaks its own rules."""


def blobs(tree: Tree, path: str, data: bytes) -> Iterator[bytes]:
    """The header of each package, in the order of the pages."""
    order = _byte_order(data)
    if order is None:
        tree.skip(path, "not a hash of Berkeley DB's")
        return
    size = struct.unpack_from(f"{order}I", data, 20)[0]
    if data[24] or size < 512 or size > 65536 or size & (size - 1):
        tree.skip(path, "encrypted, or of a page size that there is not")
        return
    budget = len(data)  # a value may be as large as the file, but not all of them
    for page in range(1, len(data) // size):
        if data[page * size + 25] not in (_UNSORTED, _SORTED):
            continue
        try:
            for value in _values(data, order, size, page):
                if len(value) < 16:
                    continue  # rpm's counter, under the key 0
                budget -= len(value)
                if budget < 0:
                    raise _Damaged("its values are larger than itself")
                yield value
        except (_Damaged, struct.error) as error:
            tree.skip(path, f"page {page} is damaged: {error}")
            if budget < 0:
                return


def _byte_order(data: bytes) -> str | None:
    if len(data) < 512:
        return None
    return next((order for order in "<>" if struct.unpack_from(f"{order}I", data, 12)[0] == _HASH_MAGIC), None)


def _values(data: bytes, order: str, size: int, page: int) -> Iterator[bytes]:
    """The values of a page: every second item."""
    base = page * size
    count = struct.unpack_from(f"{order}H", data, base + 20)[0]
    if _HEAD + count * 2 > size:
        raise _Damaged("more items than it has room for")
    offsets = struct.unpack_from(f"{order}{count}H", data, base + _HEAD)
    for number in range(1, count, 2):
        at = offsets[number]
        if at >= size:
            raise _Damaged("an item lies outside of it")
        kind = data[base + at]
        if kind == _KEYDATA:
            end = offsets[number - 1]  # items are filled in from the end of the page, each below the one before it
            yield data[base + at + 1 : base + end]
        elif kind == _OFFPAGE:
            first, length = struct.unpack_from(f"{order}II", data, base + at + 4)
            yield _chain(data, order, size, first, length)


def _chain(data: bytes, order: str, size: int, page: int, length: int) -> bytes:
    """A value that is spread over overflow pages."""
    if length > len(data):
        raise _Damaged("a value is larger than the file")
    parts, missing, pages = [], length, len(data) // size
    while missing > 0:
        base = page * size
        if not page or page >= pages or data[base + 25] != _OVERFLOW:
            raise _Damaged("a value is cut short")
        used = min(struct.unpack_from(f"{order}H", data, base + 22)[0], size - _HEAD, missing)
        if not used:
            raise _Damaged("a value is cut short")
        parts.append(data[base + _HEAD : base + _HEAD + used])
        missing -= used
        page = struct.unpack_from(f"{order}I", data, base + 16)[0]
    return b"".join(parts)
