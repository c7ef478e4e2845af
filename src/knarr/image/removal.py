"""Take images away from a registry or a layout: a tag, or a manifest with all its tags, and what hangs on it alone.

Spec: distribution-spec v1.1, "Deleting tags", "Deleting Manifests". A registry may know
only the second; there a tag goes with its manifest, unless another tag needs that.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Protocol

from knarr.errors import KnarrError, NotFound, RegistryError
from knarr.image.layoutrepository import LayoutRepository
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.referrers import fallback_tag

_NO_TAG_DELETION = (400, 405)  # distribution knows deletion by digest only


class Erasable(Protocol):
    """A repository of a registry."""

    @property
    def name(self) -> str: ...

    def resolve(self, name: str) -> Descriptor: ...

    def predecessors(self, descriptor: Descriptor, artifact_type: str = "") -> tuple[Descriptor, ...]: ...

    def delete(self, name: str) -> None: ...


def remove_tag(place: Erasable | LayoutRepository, tag: str, kept: Container[str]) -> Digest:
    """Take `tag` away; what it named. `kept` are the digests that other tags name, looked at only if need be.

    Raises:
        NotFound: there is no such tag.
        KnarrError: the registry deletes no tags, and another tag needs the manifest.
        RegistryError: it deletes nothing, or not for us.
    """
    digest = place.resolve(tag).digest
    if isinstance(place, LayoutRepository):
        place.delete_tag(tag)
        return digest
    try:
        place.delete(tag)
    except RegistryError as error:
        if error.status not in _NO_TAG_DELETION:
            raise
        if digest in kept:
            raise KnarrError(
                f"{place.name}:{tag}: this registry deletes by digest only, and a tag that stays has the same",
                hint=f"`knarr delete {place.name}@{digest}` takes all its tags",
            ) from error
        place.delete(str(digest))
    return digest


def hanging_tags(digest: Digest, there: Iterable[str]) -> Iterator[str]:
    """Those of the tags `there` that belong to `digest`: lists of its referrers, and cosign's of signatures."""
    start = fallback_tag(digest)
    return (tag for tag in there if tag == start or tag.startswith(f"{start}."))


def remove_hanging(place: Erasable | LayoutRepository, digest: Digest, there: Iterable[str]) -> list[str]:
    """Take away the tags `there` that belong to a digest which is gone; those that were taken."""
    taken = []
    for tag in hanging_tags(digest, there):
        try:
            remove_tag(place, tag, ())
        except NotFound:
            continue  # another tag of the same manifest took it along
        taken.append(tag)
    return taken
