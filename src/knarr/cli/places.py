"""Open the places that a command line names (`image.spot`), to read from and to write to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from knarr.content.target import Fetcher, Predecessors, Resolver
from knarr.errors import UsageError
from knarr.image.closure import Tagged
from knarr.image.spot import CONTAINERD, LAYOUT, REGISTRY, STORE, Spot, spot

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed
    from knarr.cli.transfer import Transfer
    from knarr.image.closurecopy import Destination
    from knarr.image.listed import Listed
    from knarr.remote.repository import Registry
    from knarr.scope import Scope
    from knarr.spec.descriptor import Descriptor


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
    elif place.kind == CONTAINERD:
        from knarr.cli.containerdplace import opened_namespace

        with opened_namespace(world, place, make=False) as namespace:
            yield namespace
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
    elif place.kind == CONTAINERD:
        from knarr.cli.containerdplace import opened_namespace

        assert place.reference is not None
        with opened_namespace(world, place, make=True) as namespace:
            yield namespace, _tags(place.reference.tag)
    else:
        from knarr.image.layoutrepository import LayoutRepository

        if os.path.exists(place.path) and not os.path.isdir(place.path):
            raise UsageError(f"{place.path} is not a directory", hint=f"for an archive write oci-archive:{place.path}")
        yield LayoutRepository.create(Path(place.path)), _tags(place.tag)


def _tags(tag: str) -> tuple[str, ...]:
    return (tag,) if tag else ()


@contextmanager
def named_image(given: Parsed, command: str) -> Iterator[tuple[Spot, Place, Descriptor, Scope]]:
    """The one image that the words of a command name, opened for looking at it.

    Raises:
        UsageError: it does not name one.
        KnarrError: there is no such image, or its place cannot be read.
    """
    from knarr.cli.copy import trusting
    from knarr.cli.transfer import quiet_transfer

    if len(given.words) != 1:
        raise UsageError(f"{command} needs one image", hint=f"see `{command} --help`")
    where = spot(given.words[0])
    with quiet_transfer() as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        place, root = stack.enter_context(opened_source(world, where, registry))
        yield where, place, root, world.scope
