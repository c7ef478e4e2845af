"""`knarr pull`: copy images from registries into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import PLATFORM_FLAG, PROGRESS_FLAGS, Transfer, platforms, told, transfer, words_of
from knarr.cli.trustflags import VERIFY_FLAG, guard_of
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.spec.descriptor import Descriptor
    from knarr.spec.platform import Platform
    from knarr.spec.reference import Reference
    from knarr.trust.guard import Guard

FLAGS = (
    PLATFORM_FLAG,
    Flag("all-platforms", Kind.SWITCH, "", "every platform the image has (default: this machine's)"),
    VERIFY_FLAG,
    *PROGRESS_FLAGS,
)


def help_text() -> str:
    """What `knarr pull --help` prints."""
    return (
        "Usage: knarr pull [OPTIONS] NAME[:TAG][@DIGEST]...\n\n"
        "Copy images from registries into the store. The digest of an image of several platforms\n"
        f"stays the same, however many of them are pulled.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr pull ARGUMENTS`.

    Raises:
        KnarrError: an image could not be pulled; those before it were.
    """
    from knarr.spec.reference import Reference

    given = parse(FLAGS, argv, command="knarr pull")
    if given.switch("help"):
        print(help_text())
        return 0
    wanted = platforms(given)
    if wanted and given.switch("all-platforms"):
        raise UsageError("--platform and --all-platforms exclude each other")
    references = [Reference.parse(word).tagged() for word in words_of(given, "knarr pull", "the name of an image")]
    guard = guard_of(given)
    chosen = _chosen(wanted, given.switch("all-platforms"))
    with transfer(given) as world:
        pulled = [_pull(world, reference, chosen, guard) for reference in references]
    for reference, root in zip(references, pulled, strict=True):
        print(reference.at(root.digest))
    return 0


def _chosen(wanted: Sequence[Platform], everything: bool) -> Sequence[Platform] | None:
    from knarr.spec.platform import host_platform

    return None if everything else wanted or (host_platform(),)


def _pull(world: Transfer, reference: Reference, wanted: Sequence[Platform] | None, guard: Guard | None) -> Descriptor:
    from knarr.errors import NotFound
    from knarr.export.vertex import Vertex
    from knarr.image.copy import copy_graph

    repository = world.parts.registry().repository(reference, scope=world.scope)
    with Vertex(world.sink, f"pull {reference.familiar}") as vertex:
        with vertex.phase("resolving"):
            root = repository.resolve(reference.locator)
        if guard is not None:
            with vertex.phase("verifying"):
                guard.check(repository, root, "docker", reference)
        try:
            report = copy_graph(
                repository,
                world.store,
                root,
                scope=world.scope,
                platforms=wanted,
                watch=vertex.watch("pulling"),
                sparse_target=True,
            )
        except NotFound as error:
            raise error.with_context(image=reference.familiar) from None
        _remember(world, root, repository.name)
        world.store.tag(root, str(reference))
        with vertex.phase(told(report)):
            pass
    return root


def _remember(world: Transfer, root: Descriptor, repository: str) -> None:
    """Note where the image is, platforms that were not pulled included: a push may need them."""
    from knarr.image.successors import is_document, successors

    there = [root.digest]
    for child in successors(world.store, root):
        there.append(child.digest)
        if is_document(child.media_type) and world.store.has(child):
            there.extend(blob.digest for blob in successors(world.store, child))
    world.store.sources.add(repository, there)
