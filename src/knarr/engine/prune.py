"""What a state directory holds, and what may go: records, snapshots and blobs, cache mounts, mirrors, inventories.

`usage` lists, `prune` removes. Records go first (none before what needs it), then
their snapshots, then blobs that neither a record nor an image name holds.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from knarr.cache.hold import held
from knarr.cache.prune import Policy, select, size_of
from knarr.cache.record import Record, RecordId
from knarr.content.gc import GRACE_S, collect
from knarr.engine import inventories, keptdirectories
from knarr.engine.gitmirrors import KIND as MIRROR
from knarr.engine.gitmirrors import mirrors
from knarr.engine.gitmirrors import remove as remove_mirror
from knarr.engine.orphans import remove_orphans
from knarr.engine.parts import Parts
from knarr.owner import Owner
from knarr.record import record, replace
from knarr.spec.digest import Digest

CACHE_MOUNT = "exec.cachemount"
_PLACES = (CACHE_MOUNT, MIRROR, keptdirectories.KIND, inventories.KIND)  # no links of a chain


@record
class Pruned:
    """What went: records, cache mounts and mirrors, and the bytes that came free."""

    records: tuple[Record, ...]
    freed_bytes: int


def usage(parts: Parts) -> tuple[Record, ...]:
    """Every record and cache mount, mirror of a repository, client's directory, inventory; sizes in blocks taken."""
    measured = []
    for known in parts.cache.all():
        unmeasured = known.snapshot is not None and not known.size_bytes
        measured.append(_measured(parts, known) if unmeasured else known)
    root = parts.settings.root
    beside = (_cache_mounts(root), mirrors(root), keptdirectories.directories(root), inventories.records(root))
    return (*measured, *(one for found in beside for one in found))


def _measured(parts: Parts, record: Record) -> Record:
    name = record.snapshot
    if name is None or parts.snapshotter.stat(name) is None:
        return record
    size = parts.snapshotter.usage(name).size_bytes
    parts.cache.update(record.id, size_bytes=size)
    return replace(record, size_bytes=size)


def _cache_mounts(root: Path) -> Iterator[Record]:
    for place in _mount_places(root):
        try:
            info = json.loads((place / "info.json").read_text())
            used = place.stat().st_mtime_ns
        except (OSError, ValueError):
            continue
        yield Record(
            f"cachemount:{place.name}",
            kind=CACHE_MOUNT,
            description=f"cache mount {info['id']}",
            size_bytes=_disk_bytes(place),
            created_ns=info["created_ns"],
            used_ns=used,
        )


def _mount_places(root: Path) -> list[Path]:
    base = root / "cachemounts"
    return sorted(p for p in base.iterdir() if p.is_dir()) if base.is_dir() else []


def _disk_bytes(place: Path) -> int:
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            found = os.lstat(os.path.join(directory, name))
            total += found.st_blocks * 512 // max(1, found.st_nlink)
    return total


def prune(parts: Parts, policy: Policy, *, dry_run: bool = False, grace_s: float = GRACE_S) -> Pruned:
    """Remove what `policy` lets go.

    Raises:
        UsageError: a filter of the policy cannot be read.
    """
    if not dry_run:
        remove_orphans(parts)
    known = usage(parts)
    gone = select(known, policy, now_ns=time.time_ns(), in_use=_in_use(parts, known))
    if dry_run:
        return Pruned(gone, sum(map(size_of, gone)))
    places = [record for record in gone if record.kind in _PLACES]
    links = [record for record in gone if record.kind not in _PLACES]
    freed = sum(record.size_bytes for record in links)
    parts.cache.remove(*(record.id for record in links))
    for link in links:
        # A tree that was mounted after its record was made may be there under the record's name alone.
        for name in dict.fromkeys((link.snapshot, link.id)):
            if name is not None and parts.snapshotter.stat(name) is not None:
                parts.snapshotter.remove(name)
    kept = [record for record in places if not _remove_place(parts.settings.root, record)]
    freed += sum(record.size_bytes for record in places if record not in kept)
    swept = collect(parts.store, roots=lambda: roots_of(parts.settings.root, parts.cache.all()), grace_s=grace_s)
    removed = tuple(record for record in gone if record not in kept)
    return Pruned(removed, freed + swept.size_bytes + swept.ingest_bytes)


def _in_use(parts: Parts, records: Iterable[Record]) -> set[RecordId]:
    """What containers stand on, and what builds under way have used or made: all since the oldest of them began."""
    mine = set(held(parts.settings.root).records)
    since = Owner.oldest_living_ns(parts.settings.run / "engines")
    if since is None:
        return mine
    return mine | {known.id for known in records if max(known.used_ns, known.created_ns) >= since}


def roots_of(root: Path, records: Iterable[Record]) -> list[Digest]:
    """The blobs that must stay though no name leads to them: those of records, and of containers."""
    return [*held_by_records(records), *held(root).blobs]


def held_by_records(records: Iterable[Record]) -> Iterator[Digest]:
    """The blobs that records need: their own, and the other forms of it that were exported."""
    for known in records:
        if known.blob is not None:
            yield known.blob.digest
        for key, text in known.history.items():
            if key.startswith("blob:"):
                yield Digest.parse(json.loads(text)["digest"])


def _remove_place(root: Path, record: Record) -> bool:
    if record.kind == keptdirectories.KIND:
        return keptdirectories.remove(root, record)
    if record.kind == inventories.KIND:
        return inventories.remove(root, record)
    return remove_mirror(root, record) if record.kind == MIRROR else _remove_mount(root, record)


def _remove_mount(root: Path, record: Record) -> bool:
    """Remove a cache mount unless a step is using it; tells whether it went."""
    place = root / "cachemounts" / record.id.removeprefix("cachemount:")
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        shutil.rmtree(place, ignore_errors=True)
        return not place.exists()
    finally:
        os.close(lock)
