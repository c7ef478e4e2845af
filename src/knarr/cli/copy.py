"""`knarr copy`: an image from anywhere to anywhere, with all that belongs to it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import PLATFORM_FLAG, PROGRESS_FLAGS, Transfer, platforms, told, transfer
from knarr.cli.trustflags import VERIFY_FLAG, check_spot, guard_of
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.content.target import Fetcher
    from knarr.image.reshape import Reshaped
    from knarr.image.spot import Spot
    from knarr.image.wholecopy import CopyOptions, WholeCopy
    from knarr.remote.repository import Registry
    from knarr.spec.descriptor import Descriptor
    from knarr.trust.guard import Guard

COPY_FLAGS = (
    PLATFORM_FLAG,
    Flag("sparse", Kind.SWITCH, "", "with --platform: keep the index and its digest, and leave out what it names"),
    Flag("no-referrers", Kind.SWITCH, "", "leave out what refers to the image: signatures, SBOMs"),
    Flag("referrers", Kind.LIST, "TYPE", "only referrers of this artifact type (a pattern such as application/*sbom*)"),
    Flag("no-digest-tags", Kind.SWITCH, "", "leave out tags that hang on a digest: sha256-….sig, .att, .sbom"),
    Flag(
        "attestations",
        Kind.TEXT,
        "PLACE",
        "keep (the default), drop, or move them: referrers (out of the index), index (into it), tag (sha256-….att)",
    ),
)
FLAGS = (
    *COPY_FLAGS,
    Flag("all-tags", Kind.SWITCH, "", "every tag of the repository", short="a"),
    Flag("jobs", Kind.TEXT, "N", "transfers at a time (default: 4)", short="j"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    VERIFY_FLAG,
    Flag("format", Kind.TEXT, "FORM", "json: what was kept, lost and moved, for programs"),
    *PROGRESS_FLAGS,
)


def help_text() -> str:
    """What `knarr copy --help` prints."""
    return (
        "Usage: knarr copy [OPTIONS] SOURCE TARGET\n\n"
        "Copy an image with all that belongs to it: every platform, attestations, referrers of every part of\n"
        "it and of each other, and digest tags. Digests stay. Then look at the target, and say what it shows.\n\n"
        "SOURCE and TARGET are each one of:\n"
        "  HOST/NAME[:TAG][@DIGEST]   a registry (docker:// may stand before it)\n"
        "  oci:DIR[:TAG]              an OCI layout\n"
        "  oci-archive:FILE[:TAG]     a tar of one\n"
        "  docker-archive:FILE[:NAME] a tar that docker loads\n"
        "  store:NAME                 knarr's own store\n"
        "  containerd://[NAMESPACE/]NAME[:TAG]\n"
        "                             a containerd's, such as containerd://k8s.io/app:1 (CONTAINERD_ADDRESS,\n"
        "                             CONTAINERD_NAMESPACE)\n\n"
        "With --platform for several platforms, and with --attestations other than keep, the index is written\n"
        "anew and its digest changes; the digests of the platforms stay. With --platform for one image without\n"
        "attestations the result is that image, with its own digest.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr copy ARGUMENTS`.

    Raises:
        KnarrError: something could not be copied (its tag has not moved), or the target lost it.
    """
    from knarr.image.spot import spot

    given = parse(FLAGS, argv, command="knarr copy")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 2:
        raise UsageError("knarr copy needs a source and a target", hint="see `knarr copy --help`")
    source, target = (spot(word) for word in given.words)
    if given.text("format") not in ("", "json"):
        raise UsageError(f"--format {given.text('format')}: not known", hint="use json")
    options, guard = copy_options(given), guard_of(given)
    with transfer(given) as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        results = [
            _copy(world, registry, one, to, options, given, guard)
            for one, to in _pairs(world, registry, source, target, given, guard)
        ]
    return max(results)


def check_attestations(place: str) -> None:
    """Raises:
    UsageError: `--attestations` names a place that is none.
    """
    from knarr.image.reshape import PLACES

    if place not in PLACES:
        raise UsageError(f"--attestations {place}: not known", hint=f"use one of: {', '.join(PLACES)}")


def copy_options(given: Parsed) -> CopyOptions:
    """The options that `COPY_FLAGS` and `--jobs` ask for.

    Raises:
        UsageError: they exclude each other, or a value is none.
    """
    from knarr.image.closure import ReferrerFilter, Wanted
    from knarr.image.wholecopy import CopyOptions

    attestations = given.text("attestations", "keep")
    check_attestations(attestations)
    types = given.list("referrers")
    if given.switch("no-referrers") and types:
        raise UsageError("--no-referrers and --referrers exclude each other")
    wanted = Wanted(
        platforms=platforms(given),
        referrers=not given.switch("no-referrers"),
        filters=tuple(ReferrerFilter(kind) for kind in types),
        digest_tags=not given.switch("no-digest-tags"),
        sparse=given.switch("sparse"),
    )
    return CopyOptions(wanted, attestations, jobs=_jobs(given))


def _jobs(given: Parsed) -> int:
    text = given.text("jobs", "4")
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 64):
        raise UsageError(f"--jobs {text}: must be a number from 1 to 64")
    return int(text)


def trusting(world: Transfer, given: Parsed, stack: ExitStack) -> Registry:
    """The registry client, which does not check the certificates of `--insecure` hosts."""
    registry = world.parts.registry()
    hosts = given.list("insecure")
    return stack.enter_context(registry.trusting(*hosts)) if hosts else registry


def _pairs(
    world: Transfer, registry: Registry, source: Spot, target: Spot, given: Parsed, guard: Guard | None
) -> Iterator[tuple[Spot, Spot]]:
    """What to copy where: one image, or every tag of a repository."""
    if not given.switch("all-tags"):
        yield source, target
        return
    from knarr.image.spot import tagged
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    for tag in _tags(world, registry, source):
        if guard is not None and is_digest_tag(tag):
            continue  # nobody signs a signature; it goes along with its image, or not at all
        if not is_fallback_tag(tag):  # lists of referrers are made anew at the target, of what arrives there
            yield tagged(source, tag), tagged(target, tag)


def _tags(world: Transfer, registry: Registry, source: Spot) -> Sequence[str]:
    from knarr.cli.places import opened_place

    with opened_place(world, source, registry) as place:
        found = tuple(place.tags())
    if not found:
        raise UsageError(f"{source.text} has no tags")
    return found


def _copy(
    world: Transfer,
    registry: Registry,
    source: Spot,
    target: Spot,
    options: CopyOptions,
    given: Parsed,
    guard: Guard | None,
) -> int:
    from knarr.cli.copyreport import as_json, as_text
    from knarr.cli.places import opened_source
    from knarr.export.vertex import Vertex
    from knarr.image.spot import ARCHIVES

    with (
        Vertex(world.sink, f"copy {source.text} to {target.text}") as vertex,
        opened_source(world, source, registry) as (place, root),
    ):
        check_spot(guard, place, root, source)
        watch = vertex.watch("copying")
        if target.kind in ARCHIVES:
            reshaped = _archive(world, place, root, source, target, options, watch)
            result = None
        else:
            result = _into(world, registry, place, root, source, target, options, watch)
            reshaped = result.reshaped
            with vertex.phase(told(result.outcome.report)):
                pass
    if given.text("format") == "json":
        print(as_json(source, target, root, reshaped, result))
    elif given.switch("quiet"):
        print(f"{target.repository}@{reshaped.closure.root.digest}")
    else:
        print(as_text(target, reshaped, result))
    if result is not None and result.outcome.lost:
        lost = result.outcome.lost
        raise KnarrError(
            f"{target.text}: {len(lost)} of {len(reshaped.closure.nodes)} documents are not there after the copy",
            hint="copy again; if they vanish again, the registry takes what it does not keep",
        )
    return 0


def _into(
    world: Transfer,
    registry: Registry,
    place: Fetcher,
    root: Descriptor,
    source: Spot,
    target: Spot,
    options: CopyOptions,
    watch: Any,
) -> WholeCopy:
    from knarr.cli.places import opened_target
    from knarr.image.wholecopy import copy_whole

    with opened_target(world, target, registry) as (destination, tags):
        return copy_whole(
            place,
            root,
            destination,
            tags=tags,
            scope=world.scope,
            options=options,
            watch=watch,
            mounts_of=_mounts(world, source, target),
        )


def _mounts(world: Transfer, source: Spot, target: Spot) -> Any:
    """The repositories on the target's registry that are known to have a blob: the source itself, if it is there."""
    from knarr.export.push import siblings
    from knarr.image.spot import REGISTRY

    if target.kind != REGISTRY or target.reference is None:
        return None
    known = siblings(target.repository, world.store.sources)
    if source.kind != REGISTRY or source.reference is None or source.reference.registry != target.reference.registry:
        return known
    own = source.reference.repository
    return lambda blob: [own] if own != target.reference.repository else []


def _archive(
    world: Transfer,
    place: Fetcher,
    root: Descriptor,
    source: Spot,
    target: Spot,
    options: CopyOptions,
    watch: Any,
) -> Reshaped:
    from knarr.export.destination import opened
    from knarr.image.save import save_closure
    from knarr.image.spot import DOCKER_ARCHIVE
    from knarr.image.wholecopy import gather
    from knarr.spec.platform import host_platform
    from knarr.spec.reference import Reference

    reshaped = gather(place, root, scope=world.scope, options=options)
    docker = target.kind == DOCKER_ARCHIVE
    names: tuple[str, ...] = ()
    if docker and target.tag:
        names = (str(Reference.parse(target.tag).tagged()),)
    elif docker and source.reference is not None and source.reference.tag:
        names = (f"{source.reference.registry}/{source.reference.repository}:{source.reference.tag}",)
    with opened(target.path) as out:
        save_closure(
            out,
            place,
            reshaped.closure,
            scope=world.scope,
            tag="" if docker else target.tag,
            names=names,
            docker_platform=(options.wanted.platforms or (host_platform(),))[0] if docker else None,
            watch=watch,
        )
    return reshaped
