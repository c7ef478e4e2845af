"""Inventories that were made, kept by what they are of: what did not change is not scanned twice.

A key is something that stands for the content of a tree: the digest of a manifest,
the record of a step. Files become visible whole; what cannot be read or written is
as if it were not there, for it can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from knarr.record import replace
from knarr.sbom.package import Inventory, from_json, to_json

VERSION = 1  # of what a scan finds: to be raised with every scanner that finds more, or reads otherwise
_MOST = 200  # inventories; one of Debian takes 500 KiB
_LARGEST = 512 << 20  # bytes of one, unpacked


def recall(directory: Path, key: str) -> Inventory | None:
    """The inventory that was kept for `key`."""
    place = _place(directory, key)
    try:
        unpack = zlib.decompressobj()
        raw = unpack.decompress(place.read_bytes(), _LARGEST)
        found = from_json(json.loads(raw))
        os.utime(place)  # the last used are the last to go
    except (OSError, zlib.error, KeyError, TypeError, ValueError):
        return None
    return found


def keep(directory: Path, key: str, inventory: Inventory) -> None:
    """Keep an inventory for `key`; those that were not used for longest go when there are too many."""
    place = _place(directory, key)
    draft = place.with_name(f"{place.name}.{os.urandom(6).hex()}")
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_bytes(zlib.compress(json.dumps(to_json(inventory)).encode(), 1))
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
        _tidy(directory)


def first(directory: Path, inventory: Inventory) -> Inventory:
    """The inventory with the same findings that was first kept so, or this one, which is kept then."""
    found = json.dumps(to_json(replace(inventory, scanned_s=0)))
    key = f"findings {hashlib.sha256(found.encode()).hexdigest()}"
    known = recall(directory, key)
    if known is None:
        keep(directory, key, inventory)
    return known or inventory


def files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The files that are kept, in the order of their names; their time is when they were last used."""
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def remove(directory: Path, name: str) -> None:
    """Remove one of `files` by its name."""
    (directory / name).unlink(missing_ok=True)


def _place(directory: Path, key: str) -> Path:
    return directory / hashlib.sha256(f"{VERSION}\0{key}".encode()).hexdigest()


def _tidy(directory: Path) -> None:
    found = sorted(files(directory), key=lambda one: one[1].st_mtime)
    for path, _ in found[: max(0, len(found) - _MOST)]:
        remove(directory, path.name)
