"""Whether a state directory is sound: nothing damaged, nothing half-written, nothing left by a process that died."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from knarr.cache.record import Record
from knarr.cli.machine.finding import Finding
from knarr.cli.progress.figures import plural
from knarr.config import Settings
from knarr.engine.parts import Parts
from knarr.errors import KnarrError
from knarr.owner import Owner
from knarr.spec.digest import Digest
from knarr.wal import is_damaged

_NEXT_BUILD = "the next build removes it, and so does: knarr doctor --store --repair"


def check(parts: Parts, *, repair: bool) -> Iterator[Finding]:
    """Look at everything below the state directory; with `repair`, remove what is damaged or left over."""
    for file in (parts.settings.cache_db, parts.settings.content / "meta.db"):
        if is_damaged(file):
            yield _damaged(file, repair=repair)
    if repair:
        yield _tried("repair", partial(_swept, parts))
    yield _left_by_the_dead(parts.settings)
    yield _mounts(parts.settings)
    yield _half_written(parts)
    yield _tried("blobs", partial(_blobs, parts, repair=repair))
    yield _tried("images", partial(_names, parts))
    yield _tried("registry", partial(_registry, parts))
    yield _tried("cache", partial(_records, parts))
    yield _tried("snapshots", partial(_snapshots, parts))


def _tried(subject: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; where it cannot even look, that is the finding."""
    try:
        return look()
    except KnarrError as error:
        return Finding("WRONG", subject, error.message, error.hint)


def _damaged(database: Path, *, repair: bool) -> Finding:
    if not repair:
        return Finding("WRONG", database.name, "damaged", "move it away: knarr doctor --store --repair")
    if database.name == "meta.db":
        return _salvaged(database)
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    aside = database.with_name(f"{database.name}.damaged")
    database.replace(aside)
    return Finding("ok", database.name, f"damaged: moved to {aside}")


def _salvaged(database: Path) -> Finding:
    """Names of images and what the registry's repositories have cannot be made again: what is left of them is saved."""
    from knarr.content.salvage import salvage
    from knarr.registry import tables

    done = salvage(database, tables.create)
    text = f"damaged: moved to {done.aside}, {plural(done.rows, 'row')} saved"
    if done.copied_from:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(done.copied_from))
        text += f", where they could not be read as of the copy of {made}"
    return Finding("ok", database.name, text)


def _swept(parts: Parts) -> Finding:
    from knarr.engine.recovery import sweep

    removed = sweep(parts)
    claims = parts.settings.run / "engines"
    for token in Owner.dead(claims):
        Owner.forget(claims, token)
    return Finding("ok", "repair", f"removed {plural(removed, 'left-over')}")


def _left_by_the_dead(settings: Settings) -> Finding:
    """Engines and containers whose process ended without cleaning up."""
    engines = Owner.dead(settings.run / "engines")
    owners = Owner.dead(settings.run / "owners")
    bundles = [name for token in owners for name in _listed(settings.run / "bundles" / token)]
    if engines or bundles:
        text = f"{plural(len(engines), 'build')} and {plural(len(bundles), 'container')} ended without cleaning up"
        return Finding("WRONG", "builds", text, _NEXT_BUILD)
    return Finding("ok", "builds", "every build that ended has cleaned up")


def _listed(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.is_dir() else []


def _mounts(settings: Settings) -> Finding:
    """Mounts below the state directory that everyone sees: builds with mounts of their own leave none."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [line.split(" ")[4] for line in table]
    below = f"{os.path.realpath(settings.root)}/"
    left = [point for point in points if point.startswith(below)]
    running = _running(settings)
    if left and not running:
        return Finding("WRONG", "mounts", f"{plural(len(left), 'mount')} left: {left[0]}", _NEXT_BUILD)
    return Finding("ok", "mounts", f"{plural(running, 'build')} running" if running else "none left")


def _running(settings: Settings) -> int:
    claims = settings.run / "engines"
    try:
        names = {name for name in os.listdir(claims) if not name.startswith(".")}
    except FileNotFoundError:
        return 0
    return len(names - set(Owner.dead(claims)))


def _half_written(parts: Parts) -> Finding:
    left = len(_listed(parts.settings.content / "ingest"))
    if left and not _running(parts.settings):
        return Finding("WRONG", "ingest", f"{plural(left, 'half-written blob')}", _NEXT_BUILD)
    return Finding("ok", "ingest", "no half-written blobs" if not left else f"{plural(left, 'blob')} being written")


def _blobs(parts: Parts, *, repair: bool) -> Finding:
    seen = 0

    def count(_: Digest) -> None:
        nonlocal seen
        seen += 1

    damaged = parts.store.check(on_each=count)
    if not damaged:
        return Finding("ok", "blobs", f"{plural(seen, 'blob')}, each with the digest it is named by")
    if repair:
        for digest in damaged:
            parts.store.delete(digest)
        return Finding("ok", "blobs", f"removed {plural(len(damaged), 'damaged blob')} of {seen}")
    text = f"{plural(len(damaged), 'blob')} of {seen} damaged: {damaged[0]}"
    return Finding("WRONG", "blobs", text, "remove them: knarr doctor --store --repair; then check the disk")


def _names(parts: Parts) -> Finding:
    names = parts.store.names.list()
    broken = [name.name for name in names if parts.store.find(name.descriptor.digest) is None]
    if broken:
        return Finding("WRONG", "images", f"the manifest of {broken[0]} is missing", f"knarr rmi {broken[0]}")
    return Finding("ok", "images", f"{plural(len(names), 'name')}, each with its manifest")


def _registry(parts: Parts) -> Finding:
    """Whether what the repositories of the registry server have is in the store."""
    from knarr.registry.tables import all_content

    with parts.store.database.read() as db:
        rows = all_content(db)
    lacking = [(name, digest) for name, digest in rows if parts.store.find(Digest(digest)) is None]
    if lacking:
        name, digest = lacking[0]
        text = f"{plural(len(lacking), 'blob')} of {len(rows)} missing: {digest} of {name}"
        return Finding("WRONG", "registry", text, "push or sync those images again: what is missing is taken up")
    names = {name for name, _ in rows}
    return Finding("ok", "registry", f"{len(names)} repositories, each with its {plural(len(rows), 'blob')}"
                   if names else "no repositories")  # fmt: skip


def _records(parts: Parts) -> Finding:
    """Records whose snapshot and blob are both gone are only a miss to a build: told, not wrong."""
    records = parts.cache.all()
    snapshots = {info.name for info in parts.snapshotter.walk()}
    hollow = [record for record in records if not _has_result(parts, record, snapshots)]
    text = f"{plural(len(records), 'record')} of cached steps"
    if hollow:
        return Finding("limited", "cache", f"{text}, {len(hollow)} without a result", "builds make those again")
    return Finding("ok", "cache", f"{text}, each with its result")


def _snapshots(parts: Parts) -> Finding:
    from knarr.engine.orphans import orphans

    known, lost = len(parts.snapshotter.walk()), len(orphans(parts))
    text = plural(known, "snapshot")
    gone = parts.snapshotter.lost()
    if gone:
        return Finding("WRONG", "snapshots", f"{text}, the files of {len(gone)} are gone: {gone[0]}", _NEXT_BUILD)
    if lost:
        return Finding("limited", "snapshots", f"{text}, {lost} of steps that were broken off", "run: knarr prune")
    return Finding("ok", "snapshots", f"{text}, each of a record")


def _has_result(parts: Parts, record: Record, snapshots: Collection[str]) -> bool:
    if record.same_as is not None or record.snapshot in snapshots or record.id == "layer:empty":
        return True
    return record.blob is not None and (bool(record.remote) or parts.store.find(record.blob.digest) is not None)
