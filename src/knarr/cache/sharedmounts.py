"""Cache mounts in a shared cache: each a layer of its own, told by annotations, that no record names.

BuildKit, which has no such thing, passes them over. A mount is known by its *key*: its id together
with the tree it begins with, as on the machine that wrote it (`ops.cachemount`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from knarr.record import record
from knarr.spec.descriptor import Descriptor

if TYPE_CHECKING:
    from knarr.cache.sharedgraph import Origin

ID = "knarr/cachemount"
KEY = "knarr/cachemount.key"


@record
class SharedMount:
    """What a shared cache has of one cache mount."""

    id: str
    key: str
    blob: Descriptor  # with its annotations
    origin: Origin


def described(blob: Descriptor, id: str, key: str) -> Descriptor:
    """The layer of a cache mount, as a manifest lists it."""
    return blob.bare().with_annotations({ID: id, KEY: key})


def mounts_among(blobs: Iterable[Descriptor], origin: Origin) -> tuple[SharedMount, ...]:
    """The cache mounts among the layers of a manifest."""
    return tuple(
        SharedMount(blob.annotations[ID], blob.annotations[KEY], blob, origin)
        for blob in blobs
        if ID in blob.annotations and KEY in blob.annotations
    )


def is_same_id(one: str, other: str) -> bool:
    """Whether two ids mean one mount: a Dockerfile's frontend puts a slash before the one that is written there."""
    return one.lstrip("/") == other.lstrip("/")
