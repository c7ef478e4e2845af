"""`knarr imagetools create`: an image of images, with the flags of `docker buildx imagetools create`.

Beyond buildx, what belongs to the sources goes along: referrers of every kind, and
digest tags.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import PROGRESS_FLAGS, Transfer, platforms, transfer
from knarr.errors import ContentError, KnarrError, UsageError
from knarr.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.image.combine import Combined, Note, Part
    from knarr.remote.repository import Registry, Repository
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.reference import Reference

FLAGS = (
    Flag(
        "annotation",
        Kind.LIST,
        "TYPE:KEY=VALUE",
        "for the index (index:) or its entries (manifest-descriptor[PLATFORM]:)",
    ),
    Flag("append", Kind.SWITCH, "", "add to what the first tag names already"),
    Flag("dry-run", Kind.SWITCH, "", "show the result instead of pushing it"),
    Flag("file", Kind.LIST, "FILE", "read a source from a file: a digest, a name or a descriptor in JSON", short="f"),
    Flag("metadata-file", Kind.TEXT, "FILE", "write what was made to FILE as JSON"),
    Flag("platform", Kind.LIST, "PLATFORM", "only these platforms", short="p"),
    Flag("prefer-index", Kind.TEXT, "BOOL", "make an index even of one manifest (default: true)"),
    Flag("tag", Kind.LIST, "NAME", "the name of the new image; may be given several times", short="t"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("builder", Kind.TEXT, "NAME", "taken and ignored: no builder is needed"),
    Flag("debug", Kind.SWITCH, "", "taken and ignored", short="D"),
    *PROGRESS_FLAGS,
)
_ANNOTATION = re.compile(r"(?:(?P<level>[a-z-]+)(?:\[(?P<platform>[^\]]+)\])?:)?(?P<key>[^=\s:]+)=(?P<value>.*)", re.S)


def help_text() -> str:
    """What `knarr imagetools create --help` prints."""
    return (
        "Usage: knarr imagetools create [OPTIONS] SOURCE...\n\n"
        "Make an image of images and push it. A source is a name in a registry, a digest in the same\n"
        "repository, or a descriptor in JSON. One index is copied as it is. What belongs to the sources goes\n"
        "along: attestations, referrers, digest tags.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


@record
class Source:
    """One source: where it is, and what was said of it beyond its name."""

    reference: Reference
    said: Descriptor | None = None


def run(argv: list[str]) -> int:
    """Carry out `knarr imagetools create ARGUMENTS`.

    Raises:
        KnarrError: a source is not there, or the image could not be pushed; no tag of that repository has moved then.
    """
    from knarr.cli.copy import trusting
    from knarr.spec.reference import Reference

    given = parse(FLAGS, argv, command="knarr imagetools create")
    if given.switch("help"):
        print(help_text())
        return 0
    tags = [Reference.parse(word).tagged() for word in given.list("tag")]
    if not tags and not given.switch("dry-run"):
        raise UsageError("there is no name to push to", hint="use --tag, or --dry-run to see the result")
    words = [*map(_read, given.list("file")), *given.words]
    if given.switch("append") and tags:
        words.insert(0, str(tags[0]))
    if not words:
        raise UsageError("there are no sources", hint="see `knarr imagetools create --help`")
    sources = _sources(words, tags)
    with transfer(given) as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        combined = _combined(world, registry, sources, given)
        if given.switch("dry-run"):
            print(combined.document.raw.decode())
            return 0
        names = _push(world, registry, combined, tags)
    _tell(combined, names, given)
    return 0


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(1 << 20).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KnarrError(f"--file {path}: {getattr(error, 'strerror', None) or error}") from error


def _sources(words: Sequence[str], tags: Sequence[Reference]) -> list[Source]:
    """The sources; a bare digest or descriptor is in the one repository that all others are in.

    Raises:
        UsageError: malformed, or it cannot be told where a digest is.
    """
    from knarr.record import replace
    from knarr.spec.digest import Digest
    from knarr.spec.reference import Reference

    parsed: list[tuple[Reference | None, Descriptor | None, Digest | None]] = []
    for word in words:
        if word.startswith("{"):
            described = _descriptor(word)
            parsed.append((None, described, described.digest))
        elif word.startswith(("sha256:", "sha512:")):
            parsed.append((None, None, Digest.parse(word)))
        else:
            parsed.append((Reference.parse(word).tagged(), None, None))
    named = [reference for reference, _, _ in parsed if reference is not None]
    places = {(one.registry, one.repository) for one in (*named, *tags)}
    found = []
    for word, (reference, said, digest) in zip(words, parsed, strict=True):
        if reference is None:
            if len(places) != 1:
                raise UsageError(f"{word}: there are several repositories it could be in", hint="write NAME@DIGEST")
            reference = replace((named or list(tags))[0], tag="", digest=digest)
        found.append(Source(reference, said))
    return found


def _descriptor(text: str) -> Descriptor:
    from knarr.spec.descriptor import Descriptor

    try:
        data = json.loads(text)
        if isinstance(data, dict) and "schemaVersion" in data:
            raise UsageError("a source is a manifest or an index, where a descriptor of one is wanted")
        data.setdefault("size", 0)
        return Descriptor.from_json(data)
    except (ValueError, AttributeError, ContentError) as error:
        raise UsageError(f"a source is not a descriptor: {error}") from error


def _combined(world: Transfer, registry: Registry, sources: Sequence[Source], given: Parsed) -> Combined:
    from knarr.image.combine import combine
    from knarr.image.copy import each

    parts = each(lambda one: _part(world, registry, one), sources, scope=world.scope, jobs=4)
    annotations, notes = _annotations(given.list("annotation"))
    prefer = given.text("prefer-index", "true").lower()
    if prefer not in ("true", "false", "1", "0"):
        raise UsageError(f"--prefer-index={prefer}: neither true nor false")
    return combine(
        parts,
        prefer_index=prefer in ("true", "1"),
        annotations=annotations,
        notes=notes,
        platforms=platforms(given),
    )


def _part(world: Transfer, registry: Registry, source: Source) -> Part:
    from knarr.image.combine import Part
    from knarr.image.successors import read_config, read_document
    from knarr.record import replace
    from knarr.spec.manifest import Manifest
    from knarr.spec.reference import Reference

    place = registry.repository(source.reference, scope=world.scope)
    found = place.resolve(source.reference.locator)
    document = read_document(place, found)
    descriptor = _merged(found, source.said)
    if isinstance(document, Manifest) and descriptor.platform is None:
        with suppress(ContentError):  # an artifact has no platform
            descriptor = replace(descriptor, platform=read_config(place, document).platform)
    own = Reference(source.reference.registry, source.reference.repository)
    return Part(descriptor, document, str(own))


def _merged(found: Descriptor, said: Descriptor | None) -> Descriptor:
    from knarr.record import replace

    if said is None:
        return found
    if said.size and said.size != found.size:
        raise UsageError(f"{found.digest} has {found.size} bytes, the descriptor says {said.size}")
    return replace(said, size=found.size, media_type=said.media_type or found.media_type)


def _annotations(texts: Sequence[str]) -> tuple[dict[str, str], list[Note]]:
    """Those of the index, and those of its entries."""
    from knarr.image.combine import Note
    from knarr.spec.platform import Platform

    index: dict[str, str] = {}
    notes: list[Note] = []
    for text in texts:
        match = _ANNOTATION.fullmatch(text)
        if match is None:
            raise UsageError(f"--annotation {text}: must be TYPE:KEY=VALUE")
        level, platform = match["level"] or "manifest", match["platform"]
        if level == "index":
            index[match["key"]] = match["value"]
        elif level == "manifest-descriptor":
            notes.append(Note(match["key"], match["value"], Platform.parse(platform) if platform else None))
        else:
            raise UsageError(
                f"--annotation {text}: {level} annotations would change the images themselves",
                hint="use index:KEY=VALUE or manifest-descriptor:KEY=VALUE",
            )
    return index, notes


def _push(world: Transfer, registry: Registry, combined: Combined, tags: Sequence[Reference]) -> list[str]:
    """Bring the parts and the whole to every repository that is tagged; their names."""
    from knarr.export.vertex import Vertex

    by_repository: dict[str, list[Reference]] = {}
    for tag in tags:
        by_repository.setdefault(f"{tag.registry}/{tag.repository}", []).append(tag)
    for name, own in by_repository.items():
        with Vertex(world.sink, f"pushing {name}") as vertex:
            target = registry.repository(own[0], scope=world.scope)
            _bring(world, registry, combined, target, vertex.watch("copying"))
            for tag in own:
                with vertex.phase(f"pushing {combined.document.descriptor.digest} to {tag}"):
                    target.push_manifest(combined.document.descriptor.bare(), combined.document.raw, tag=tag.tag)
    return sorted(by_repository)


def _bring(world: Transfer, registry: Registry, combined: Combined, target: Repository, watch: object) -> None:
    """Copy every part that is in another repository, with all that belongs to it."""
    from knarr.image.wholecopy import copy_whole
    from knarr.spec.manifest import Index
    from knarr.spec.reference import Reference

    document = combined.document
    entries: Sequence[Descriptor] = document.manifests if isinstance(document, Index) else (document.descriptor,)
    whole = document.descriptor
    places = set(combined.places.values())
    if isinstance(document, Index) and len(places) == 1:
        # One index as it is: what refers to the index itself goes along, too.
        place = registry.repository(Reference.parse(next(iter(places))), scope=world.scope)
        if place.name != target.name and place.has(whole.bare()):
            entries = (whole,)
    for entry in entries:
        name = combined.places.get(entry.digest) or next(iter(places))
        if name == target.name:
            continue
        source = registry.repository(Reference.parse(name), scope=world.scope)
        siblings = (source.name.partition("/")[2],) if source.host == target.host else ()
        copy_whole(
            source,
            entry.bare(),
            target,
            scope=world.scope,
            watch=watch,  # type: ignore[arg-type]  # a Watch
            mounts_of=partial(_always, siblings),
        )


def _always(repositories: tuple[str, ...], blob: Descriptor) -> tuple[str, ...]:
    return repositories


def _tell(combined: Combined, names: Sequence[str], given: Parsed) -> None:
    descriptor = combined.document.descriptor
    path = given.text("metadata-file")
    if path:
        data = {"containerimage.descriptor": descriptor.to_json(), "image.name": ",".join(names)}
        try:
            with open(path, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=2)
        except OSError as error:
            raise KnarrError(f"--metadata-file {path}: {error.strerror}") from error
    for name in names:
        print(f"{name}@{descriptor.digest}")
