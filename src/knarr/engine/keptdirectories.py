"""Directories of clients, kept for their next build, as things that take disk space and may go: see `session.kept`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from knarr.cache.record import Record
from knarr.session.kept import Kept

KIND = "source.local"
_ID = "local:"


def place(root: Path) -> Path:
    """Where they are below the state directory `root`."""
    return root / "locals"


def directories(root: Path) -> Iterator[Record]:
    """Those below the state directory `root`, as records of their own kind."""
    for found in Kept(place(root)).all():
        yield Record(
            _ID + found.name,
            kind=KIND,
            description=found.what,
            size_bytes=_disk_bytes(found.path),
            created_ns=found.created_ns,
            used_ns=found.used_ns,
        )


def remove(root: Path, record: Record) -> bool:
    """Remove one unless a build uses it; tells whether it went."""
    return Kept(place(root)).remove(record.id.removeprefix(_ID))


def _disk_bytes(path: Path) -> int:
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:
                continue  # a build is just bringing it into line
    return total
