"""Bring a bundle into registries: every image of it under its own path below a new place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from knarr.errors import NotFound
from knarr.image.closurecopy import CopyOutcome, Destination
from knarr.image.copy import Watch
from knarr.image.layout import IMAGE_NAME
from knarr.image.listed import Listed, images_in
from knarr.image.load import Archive
from knarr.image.wholecopy import copy_whole
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference


@record
class Loaded:
    """One image that was loaded."""

    name: str
    root: Descriptor
    outcome: CopyOutcome


def names_of(archive: Archive) -> dict[str, Descriptor]:
    """The images of a bundle by their whole names; what hangs on them is not among them."""
    return {
        entry.annotations[IMAGE_NAME]: entry for entry in images_in(archive.entries) if IMAGE_NAME in entry.annotations
    }


def load_one(
    archive: Archive,
    name: str,
    target: Destination,
    *,
    tag: str,
    scope: Scope,
    places: Mapping[Digest, tuple[str, ...]],
    watch: Watch | None = None,
) -> Loaded:
    """Copy the image called `name` to `target`, with all that belongs to it.

    `places` tells which repositories of the target's registry have blobs that did not travel.

    Raises:
        NotFound: a blob did not travel, and the target does not have it after all.
        KnarrError
    """
    own = Reference.parse(name)
    start = f"{own.registry}/{own.repository}:"
    entries = tuple(entry for entry in archive.entries if entry.annotations.get(IMAGE_NAME, "").startswith(start))
    root = names_of(archive)[name]
    source = Listed("the bundle", archive, entries)
    try:
        copied = copy_whole(
            source,
            root.bare(),
            target,
            tags=(tag,) if tag else (),
            scope=scope,
            watch=watch,
            mounts_of=_elsewhere(places),
        )
    except NotFound as error:
        raise error.with_context(
            image=name,
            hint="the bundle was made for a place that has this blob: make it with an inventory of the right one",
        ) from None
    return Loaded(name, copied.root, copied.outcome)


def _elsewhere(places: Mapping[Digest, tuple[str, ...]]) -> Callable[[Descriptor], tuple[str, ...]]:
    return lambda blob: places.get(blob.digest, ())[:3]
