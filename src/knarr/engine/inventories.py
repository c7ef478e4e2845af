"""Inventories of software, kept so that nothing is scanned twice, as things that take disk space and may go.

They are made again when they are wanted: see `sbom.kept`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knarr.cache.record import Record
from knarr.sbom import kept

KIND = "sbom"
_ID = "sbom:"


def place(root: Path) -> Path:
    """Where they are below the state directory `root`."""
    return root / "sboms"


def records(root: Path) -> Iterator[Record]:
    """Those below the state directory `root`, as records of their own kind."""
    for file, found in kept.files(place(root)):
        yield Record(
            _ID + file.name,
            kind=KIND,
            description="software that was found in an image or a build's result",
            size_bytes=found.st_blocks * 512,
            created_ns=found.st_ctime_ns,
            used_ns=found.st_mtime_ns,
        )


def remove(root: Path, record: Record) -> bool:
    """Remove one; a scan that reads it has opened it, or makes it again. Tells whether it went."""
    kept.remove(place(root), record.id.removeprefix(_ID))
    return True
