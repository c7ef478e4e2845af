"""Where images are, as words of a command line: a registry, a layout, an archive, the store.

registry.example/team/app:1.0     a registry (docker:// may stand before it)
oci:DIR[:TAG]                     an OCI layout (ocidir:// as well)
oci-archive:FILE[:TAG]            a tar of one
docker-archive:FILE[:NAME]        a tar that docker loads
store:NAME                        knarr's own store
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from knarr.content.target import Fetcher, Predecessors, Resolver
from knarr.errors import UsageError
from knarr.image.closure import Tagged
from knarr.record import record, replace

if TYPE_CHECKING:
    from knarr.cli.transfer import Transfer
    from knarr.image.closurecopy import Destination
    from knarr.image.listed import Listed
    from knarr.remote.repository import Registry
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.reference import Reference

REGISTRY, LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE, STORE = "docker", "oci", "oci-archive", "docker-archive", "store"
_PREFIXES = {
    "docker://": REGISTRY,
    "ocidir://": LAYOUT,
    "oci:": LAYOUT,
    "oci-archive:": OCI_ARCHIVE,
    "docker-archive:": DOCKER_ARCHIVE,
    "store:": STORE,
}
_ELSEWHERE = ("docker-daemon", "containers-storage", "containerd", "dir", "ostree", "sif", "tarball")
ARCHIVES = (OCI_ARCHIVE, DOCKER_ARCHIVE)


@record
class Spot:
    """One word, understood. `path` and `tag` are of files; `reference` of registries and the store."""

    kind: str
    text: str
    path: str = ""
    tag: str = ""
    reference: Reference | None = None

    @property
    def repository(self) -> str:
        """What the image is called, without its tag, for messages."""
        if self.reference is not None:
            name = f"{self.reference.registry}/{self.reference.repository}"
            return name if self.kind == REGISTRY else f"{self.kind}:{name}"
        return f"{self.kind}:{self.path}"


def spot(text: str) -> Spot:
    """What `text` stands for.

    Raises:
        UsageError: a transport that is not known, or something malformed behind it.
    """
    from knarr.spec.reference import Reference

    kind, rest = REGISTRY, text
    for prefix, known in _PREFIXES.items():
        if text.startswith(prefix):
            kind, rest = known, text.removeprefix(prefix)
            break
    word = text.partition(":")[0]
    if kind == REGISTRY and word in _ELSEWHERE and rest == text:
        raise UsageError(f"{text}: {word}: is not supported", hint="use a registry, oci:, oci-archive: or store:")
    if not rest:
        raise UsageError(f"{text!r}: something must stand behind {kind}:", hint=f"write {kind}:PATH")
    if kind in (REGISTRY, STORE):
        return Spot(kind, text, reference=Reference.parse(rest).tagged())
    path, tag = _split(rest, kind)
    return Spot(kind, text, path=path, tag=tag)


def shown_name(place: Spot) -> str:
    """The whole name, for people: a registry's with its tag, or what was written."""
    if place.reference is None:
        return place.text
    return str(place.reference) if place.kind == REGISTRY else f"{place.kind}:{place.reference}"


def tagged(place: Spot, tag: str) -> Spot:
    """The same place with another tag."""
    if place.reference is not None:
        return replace(place, reference=replace(place.reference, tag=tag, digest=None))
    return replace(place, tag=tag)


def _split(rest: str, kind: str) -> tuple[str, str]:
    """Path and tag: skopeo's rule, the first colon ends the path. A digest may stand behind `@`."""
    path, _, tag = rest.partition(":")
    at, separator, digest = rest.partition("@")
    if separator and ":" not in at:
        path, tag = at, digest
    if not path:
        raise UsageError(f"{kind}:{rest}: there is no path in it")
    return path, tag


class Place(Fetcher, Resolver, Predecessors, Tagged, Protocol):
    """Somewhere images are read from by name."""


@contextmanager
def opened_place(world: Transfer, place: Spot, registry: Registry) -> Iterator[Place]:
    """The place to read from.

    Raises:
        KnarrError: it is not there, or cannot be read.
    """
    if place.kind == REGISTRY:
        assert place.reference is not None
        yield registry.repository(place.reference, scope=world.scope)
    elif place.kind == STORE:
        from knarr.cli.storeplace import StorePlace

        assert place.reference is not None
        yield StorePlace(world.store, place.reference, world.parts.registry, world.scope)
    elif place.kind == LAYOUT:
        from knarr.image.layoutrepository import LayoutRepository

        yield LayoutRepository.at(Path(place.path))
    else:
        from knarr.cli.load import seekable
        from knarr.image.listed import Listed
        from knarr.image.load import open_archive

        with seekable(place.path, world.parts.settings.run, world) as file:
            archive = open_archive(file)
            yield Listed(f"archive {place.path}", archive, archive.entries)


@contextmanager
def opened_source(world: Transfer, place: Spot, registry: Registry) -> Iterator[tuple[Place, Descriptor]]:
    """The place to read from, and the image that `place` names.

    Raises:
        NotFound: there is no such image.
        KnarrError: the place cannot be read.
    """
    from knarr.image.listed import Listed

    with opened_place(world, place, registry) as opened:
        if isinstance(opened, Listed):
            yield opened, _in_list(opened, place.tag)
        else:
            assert place.reference is not None
            yield opened, opened.resolve(place.reference.locator)


def _in_list(listed: Listed, tag: str) -> Descriptor:
    """The image called `tag` in a layout or an archive: by its tag, or by a whole name as docker shows it."""
    from knarr.errors import NotFound
    from knarr.spec.reference import Reference

    if not tag:
        return listed.only()
    try:
        return listed.resolve(tag)
    except NotFound:
        return listed.resolve(str(Reference.parse(tag).tagged()))


@contextmanager
def opened_target(world: Transfer, place: Spot, registry: Registry) -> Iterator[tuple[Destination, Sequence[str]]]:
    """The place to write to, and the tags that `place` gives the image there. Archives are not written this way.

    Raises:
        KnarrError: the place cannot be made.
    """
    if place.kind == REGISTRY:
        assert place.reference is not None
        yield registry.repository(place.reference, scope=world.scope), _tags(place.reference.tag)
    elif place.kind == STORE:
        from knarr.cli.storeplace import StorePlace

        assert place.reference is not None
        yield StorePlace(world.store, place.reference, world.parts.registry, world.scope), _tags(place.reference.tag)
    else:
        from knarr.image.layoutrepository import LayoutRepository

        if os.path.exists(place.path) and not os.path.isdir(place.path):
            raise UsageError(f"{place.path} is not a directory", hint=f"for an archive write oci-archive:{place.path}")
        yield LayoutRepository.create(Path(place.path)), _tags(place.tag)


def _tags(tag: str) -> tuple[str, ...]:
    return (tag,) if tag else ()
