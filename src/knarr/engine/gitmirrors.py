"""Mirrors of git repositories as things that take disk space and may go: see `ops.gitcheckout`."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from knarr.cache.record import Record
from knarr.ops.gitcheckout import URL_FILE

KIND = "source.git.mirror"
_ID = "gitmirror:"


def mirrors(root: Path) -> Iterator[Record]:
    """The mirrors below the state directory `root`, as records of their own kind."""
    base = root / "git"
    for place in sorted(p for p in base.iterdir() if p.is_dir()) if base.is_dir() else []:
        try:
            url = (place / URL_FILE).read_text()
            used = (place / URL_FILE).stat().st_mtime_ns
            size = _disk_bytes(place)
        except OSError:
            continue  # being made, or just removed
        description = f"git repository {url}"
        yield Record(
            _ID + place.name, kind=KIND, description=description, size_bytes=size, created_ns=used, used_ns=used
        )


def remove(root: Path, record: Record) -> bool:
    """Remove a mirror unless a build is fetching into it; tells whether it went."""
    name = record.id.removeprefix(_ID)
    (root / "flights").mkdir(exist_ok=True)
    flight = root / "flights" / f"git-{name}"
    lock = os.open(flight, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(root / "git" / name, ignore_errors=True)
        flight.unlink(missing_ok=True)
        return not (root / "git" / name).exists()
    finally:
        os.close(lock)


def _disk_bytes(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        total += sum(os.lstat(os.path.join(directory, name)).st_blocks for name in names) * 512
    return total
