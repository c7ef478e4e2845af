"""What containers need of the cache and the content: their images' records and blobs.

A container's file says it (`containers/<id>/config.json`, written by `containers.store`), so that
there is one truth, and it ends with the container.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from knarr.cache.record import RecordId
from knarr.errors import KnarrError
from knarr.record import record
from knarr.spec.digest import Digest


@record
class Held:
    """Records that must stay, with all that they stand on, and blobs."""

    records: frozenset[RecordId]
    blobs: frozenset[Digest]


def held(root: Path) -> Held:
    """What the containers below the state directory `root` hold. A file that cannot be read holds nothing."""
    records: set[RecordId] = set()
    blobs: set[Digest] = set()
    directory = root / "containers"
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return Held(frozenset(), frozenset())
    for name in names:
        try:
            told = json.loads((directory / name / "config.json").read_bytes())
            records.add(str(told["record"]))
            blobs.update(Digest.parse(text) for text in told["blobs"])
        except (OSError, ValueError, KeyError, TypeError, KnarrError):
            continue
    return Held(frozenset(records), frozenset(blobs))
