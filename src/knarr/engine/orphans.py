"""Snapshots that no record names: a build was killed between committing a tree and saving its record."""

from __future__ import annotations

import time
from contextlib import suppress

from knarr.engine.parts import Parts
from knarr.errors import ContentError
from knarr.owner import Owner


def orphans(parts: Parts) -> list[str]:
    """The names of all orphans, those that others stand on last.

    What was committed since the oldest living build began may still get its record.
    """
    before = time.time_ns()  # first of all: a build that begins after this commits later than this
    since = Owner.oldest_living_ns(parts.settings.run / "engines")
    limit = before if since is None else min(before, since)
    snapshots = [info for info in parts.snapshotter.walk() if info.committed and info.created_ns < limit]
    if not snapshots:
        return []
    named = {name for record in parts.cache.all() for name in (record.id, record.snapshot)}
    return [info.name for info in reversed(snapshots) if info.name not in named]


def remove_orphans(parts: Parts) -> int:
    """Remove all orphans; returns how many."""
    removed = 0
    for name in orphans(parts):
        with suppress(ContentError):  # a snapshot that has a record stands on it
            parts.snapshotter.remove(name)
            removed += 1
    return removed
