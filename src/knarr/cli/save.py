"""`knarr save`: write images to one archive that docker, containerd, podman and skopeo load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import PROGRESS_FLAGS, Transfer, transfer, words_of
from knarr.errors import NotFound, UsageError
from knarr.image.spot import Spot, spot
from knarr.spec.platform import Platform, host_platform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.containerd.client import Containerd
    from knarr.content.target import Fetcher
    from knarr.image.save import NamedImage
    from knarr.spec.descriptor import Descriptor

    Has = Callable[[Descriptor], bool]

FLAGS = (
    Flag("output", Kind.TEXT, "FILE", "write to this file (default: standard output)", short="o"),
    Flag("format", Kind.TEXT, "FORM", "docker (the default: an OCI layout that docker loads, too) or oci"),
    Flag("platform", Kind.TEXT, "PLATFORM", "what docker is to load of an image of several platforms"),
    *PROGRESS_FLAGS,
)


def help_text() -> str:
    """What `knarr save --help` prints."""
    return (
        "Usage: knarr save [OPTIONS] IMAGE...\n\n"
        "Write images to one archive, with all their platforms that are in the store; of a containerd's, those\n"
        "that are there: containerd://[NAMESPACE/]NAME[:TAG].\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr save ARGUMENTS`.

    Raises:
        KnarrError: an image is not here as a whole; the file is as it was then.
    """
    given = parse(FLAGS, argv, command="knarr save")
    if given.switch("help"):
        print(help_text())
        return 0
    words = words_of(given, "knarr save", "an image")
    form = given.text("format", "docker").removesuffix("-archive")
    if form not in ("docker", "oci"):
        raise UsageError(f"--format {form}: not known", hint="use docker or oci")
    platform = Platform.parse(given.text("platform")) if given.text("platform") else host_platform()
    dest = given.text("output") or "-"
    if os.path.isdir(dest):
        raise UsageError(f"--output {dest} is a directory", hint="name a file in it")
    with transfer(given) as world:
        _save(world, words, dest, platform if form == "docker" else None)
    return 0


def _save(world: Transfer, words: Sequence[str], dest: str, docker_platform: Platform | None) -> None:
    from knarr.export.destination import opened
    from knarr.export.vertex import Vertex
    from knarr.image.save import save

    with (
        Vertex(world.sink, f"save {' '.join(words)}") as vertex,
        _opened_source(world, words) as (source, has, images),
        opened(dest) as out,
    ):
        save(
            out,
            source,
            images,
            scope=world.scope,
            docker_platform=docker_platform,
            has=has,
            watch=vertex.watch("writing"),
        )


@contextmanager
def _opened_source(world: Transfer, words: Sequence[str]) -> Iterator[tuple[Fetcher, Has, list[NamedImage]]]:
    """Where the images are: knarr's own store, or one namespace of a containerd's."""
    from knarr.image.successors import is_document

    places = [spot(word) for word in words if word.startswith("containerd://")]
    if not places:
        from knarr.remote.anywhere import Anywhere

        store = world.store
        source = Anywhere(store, world.parts.registry, world.scope)

        def has(found: Descriptor) -> bool:
            # Platforms count as here by their manifest; layers of theirs that are not can be fetched.
            return store.has(found) if is_document(found.media_type) else source.knows(found)

        yield source, has, _images(world, words)
        return
    namespaces = {place.namespace for place in places}
    if len(places) < len(words) or len(namespaces) > 1:
        raise UsageError("one archive is written from one place", hint="all from one namespace, or all from the store")
    from knarr.cli.containerdplace import dialled
    from knarr.containerd.content import Content

    with dialled(world, namespaces.pop(), make=False) as daemon:
        content = Content(daemon)
        yield content, content.has, _images_of(daemon, places)


def _images_of(daemon: Containerd, places: Sequence[Spot]) -> list[NamedImage]:
    from knarr.containerd.images import Images
    from knarr.image.save import NamedImage

    names = Images(daemon)
    found = [names.get(str(place.reference)) for place in places]
    return [NamedImage(image.target, (image.name,)) for image in found]


def _images(world: Transfer, words: Sequence[str]) -> list[NamedImage]:
    """The images, each once, with the names they were asked for by."""
    from knarr.image.save import NamedImage
    from knarr.image.stored import lookup

    names: dict[object, list[str]] = {}
    found = {}
    for word in words:
        name = lookup(world.store, word)
        if not world.store.has(name.descriptor):
            raise NotFound(f"{word}: its manifest is not in the store any more", hint="pull or build it again")
        found[name.descriptor.digest] = name.descriptor
        own = names.setdefault(name.descriptor.digest, [])
        if not name.name.startswith("<none>") and name.name not in own:
            own.append(name.name)
    return [NamedImage(descriptor.bare(), tuple(names[digest])) for digest, descriptor in found.items()]
