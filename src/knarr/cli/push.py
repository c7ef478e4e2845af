"""`knarr push`: copy images from the store to their registries."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import PLATFORM_FLAG, PROGRESS_FLAGS, Transfer, platforms, told, transfer, words_of
from knarr.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.spec.descriptor import Descriptor
    from knarr.spec.platform import Platform

FLAGS = (
    PLATFORM_FLAG,
    Flag("all-platforms", Kind.SWITCH, "", "every platform of the image (this is the default)"),
    Flag("insecure", Kind.SWITCH, "", "do not check the registry's certificate; plain HTTP if it has no TLS"),
    *PROGRESS_FLAGS,
)


def help_text() -> str:
    """What `knarr push --help` prints."""
    return (
        "Usage: knarr push [OPTIONS] NAME[:TAG]...\n\n"
        "Copy images from the store to their registries. What was never fetched goes from the registry\n"
        f"that has it straight to the new one.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr push ARGUMENTS`.

    Raises:
        KnarrError: an image could not be pushed; those before it were. Its tag has not moved.
    """
    given = parse(FLAGS, argv, command="knarr push")
    if given.switch("help"):
        print(help_text())
        return 0
    wanted = platforms(given)
    if wanted and given.switch("all-platforms"):
        raise UsageError("--platform and --all-platforms exclude each other")
    pushed = []
    with transfer(given) as world:
        for word in words_of(given, "knarr push", "the name of an image"):
            pushed.append(_push(world, word, wanted, insecure=given.switch("insecure")))
    print("\n".join(pushed))
    return 0


def _push(world: Transfer, word: str, wanted: Sequence[Platform], *, insecure: bool) -> str:
    from knarr.export.push import siblings
    from knarr.export.vertex import Vertex
    from knarr.image.copy import copy_graph
    from knarr.image.successors import walk
    from knarr.remote.anywhere import Anywhere
    from knarr.spec.reference import Reference

    reference = Reference.parse(word).tagged()
    named = world.store.names.get(str(reference))
    if named is None:
        raise NotFound(
            f"there is no image {reference.familiar} in the store", hint="`knarr tag` gives an image another name"
        )
    root = _cut(world, named.descriptor, wanted)
    source = Anywhere(world.store, world.parts.registry, world.scope)
    with Vertex(world.sink, f"push {reference.familiar}") as vertex, ExitStack() as stack:
        registry = world.parts.registry()
        if insecure:
            registry = stack.enter_context(registry.trusting(reference.registry))
        repository = registry.repository(reference, scope=world.scope)
        report = copy_graph(
            source,
            repository,
            root,
            scope=world.scope,
            watch=vertex.watch("pushing"),
            mounts_of=siblings(repository.name, world.store.sources),
            below_only=True,
        )
        with vertex.phase(f"pushing manifest for {reference.at(root.digest)}"):
            repository.push_manifest(root, world.store.read(root), tag=reference.tag)
        world.store.sources.add(repository.name, [found.digest for found in walk(source, root)])
        with vertex.phase(told(report)):
            pass
    return str(reference.at(root.digest))


def _cut(world: Transfer, root: Descriptor, wanted: Sequence[Platform]) -> Descriptor:
    """`root`, or what of it `wanted` leaves: an index over less, or a single manifest."""
    from knarr.image.reshape import cut
    from knarr.image.successors import read_document
    from knarr.spec.manifest import Index, Manifest

    if not wanted:
        return root.bare()
    document = read_document(world.store, root)
    if isinstance(document, Manifest):
        raise UsageError(f"{root.digest} is one image without an index", hint="leave out --platform")
    kept = cut(document, wanted)
    return world.store.put(kept.media_type, kept.raw) if isinstance(kept, Index) else kept.bare()
