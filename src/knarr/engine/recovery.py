"""Cleaning up after engines that were killed.

Every engine claims ownership of what it would leave behind; the kernel gives the
claim up with the process, however it ends. The next engine on the state directory
finds the dead claim and sweeps: containers and their processes first (they use
the mounts), then active snapshots and those without a record, then half-written
blobs, mount points and flights.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cache.record import SHARED, RecordId
from knarr.engine.orphans import remove_orphans
from knarr.engine.parts import Parts
from knarr.errors import KnarrError
from knarr.owner import Owner, remove_abandoned

if TYPE_CHECKING:
    from knarr.cache.store import CacheStore


@contextlib.contextmanager
def owned(parts: Parts) -> Iterator[None]:
    """Hold a claim on the state directory while in the block; sweep first if somebody died with one."""
    sweep_dead(parts)
    claims = _claims(parts)
    owner = Owner.claim(claims)
    try:
        yield
    except KeyboardInterrupt:
        owner.release()  # broken off between any two lines: the next engine sweeps
        raise
    except BaseException:
        try:
            # On the way out of a failure not everything can always be removed, on a full disk for one.
            sweep(parts)
            parts.close()
        except (KnarrError, OSError):
            owner.release()  # the next engine sweeps
        else:
            _give_up(owner, claims)
        raise
    _give_up(owner, claims)


def sweep_dead(parts: Parts) -> None:
    """Remove what engines have left that did not come to their end, if there are any. Cheap when there are none."""
    claims = _claims(parts)
    dead = Owner.dead(claims)
    if dead:
        sweep(parts)
        for token in dead:
            Owner.forget(claims, token)


def forget_shared(cache: CacheStore) -> None:
    """Forget what was taken from shared caches and is not unpacked, with all that lies on top of it.

    For a build after one that found such a layer missing or wrong: blobs that look well are suspect too.
    """
    gone: dict[RecordId, None] = {}
    todo = [known.id for known in cache.all() if SHARED in known.history and known.snapshot is None]
    while todo:
        id = todo.pop()
        if id not in gone:
            gone[id] = None
            todo += [child.id for child in cache.children(id)]
    cache.remove(*gone)


def _claims(parts: Parts) -> Path:
    return parts.settings.run / "engines"


def _give_up(owner: Owner, claims: Path) -> None:
    """Everything was cleaned up in order: the claim goes before the lock, so nobody takes it for a dead one."""
    Owner.forget(claims, owner.token)
    owner.release()


def sweep(parts: Parts) -> int:
    """Remove what killed processes left; returns how many things that were."""
    found = parts.runtime().sweep()
    found += parts.snapshotter.sweep() + remove_orphans(parts)
    parts.store.leases.sweep()
    found += 1 if parts.store.sweep_ingest() else 0
    mounts = parts.settings.run / "mnt"
    for name in _listed(mounts):
        # Not just tried: a mount that is only in another engine's mount namespace does not keep a directory.
        if parts.snapshotter.stat(name) is None:
            with contextlib.suppress(OSError):
                os.rmdir(mounts / name)
    flights = parts.settings.root / "flights"
    for name in _listed(flights):
        remove_abandoned(os.path.join(flights, name))
    return found


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
