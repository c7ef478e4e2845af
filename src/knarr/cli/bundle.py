"""`knarr bundle`: carry images to where no network goes, and only what is missing there."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, BinaryIO, cast

from knarr.cli.copy import COPY_FLAGS, copy_options, trusting
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.transfer import PROGRESS_FLAGS, Transfer, transfer, words_of
from knarr.errors import KnarrError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.cli.places import Place
    from knarr.image.closure import Closure
    from knarr.image.load import Archive
    from knarr.image.spot import Spot
    from knarr.remote.repository import Registry
    from knarr.spec.digest import Digest

_INSECURE = Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS")
_CREATE = (
    Flag("output", Kind.TEXT, "PREFIX", "write PREFIX.bundle.json and PREFIX.bundle.000, …", short="o"),
    Flag("since", Kind.LIST, "FILE", "leave out blobs of this inventory, or of this bundle's list"),
    Flag("volume-size", Kind.TEXT, "SIZE", "cut into files of at most SIZE, such as 700M or 4G (default: one file)"),
    *COPY_FLAGS,
    _INSECURE,
    *PROGRESS_FLAGS,
)
_LOAD = (
    Flag("to", Kind.TEXT, "PLACE", "where to: a registry, perhaps with a path, or store: (names stay)"),
    Flag("list", Kind.SWITCH, "", "show what is in the bundle, and load nothing"),
    _INSECURE,
    *PROGRESS_FLAGS,
)
_INVENTORY = (
    Flag("output", Kind.TEXT, "FILE", "write to this file (default: standard output)", short="o"),
    _INSECURE,
    *PROGRESS_FLAGS,
)
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)


def help_text() -> str:
    """What `knarr bundle --help` prints."""
    return (
        "Usage: knarr bundle create|load|inventory [OPTIONS] ...\n\n"
        "Carry images to where no network goes. `inventory` tells there what is there; `create` here writes what\n"
        "is missing, as an OCI layout cut into volumes with checksums; `load` there brings it in. Each goes on\n"
        "where it was interrupted.\n\n"
        "Usage: knarr bundle create [OPTIONS] -o PREFIX SOURCE...\n\n"
        f"Options:\n{usage(_CREATE)}\n\n"
        "Usage: knarr bundle load [OPTIONS] --to PLACE BUNDLE\n\n"
        f"Options:\n{usage(_LOAD)}\n\n"
        "Usage: knarr bundle inventory [OPTIONS] REPOSITORY|REGISTRY...\n\n"
        f"Options:\n{usage(_INVENTORY)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr bundle ARGUMENTS`.

    Raises:
        KnarrError: of the command.
    """
    commands = {"create": (_create, _CREATE), "load": (_load, _LOAD), "inventory": (_inventory, _INVENTORY)}
    if not argv or argv[0] in ("-h", "--help"):
        print(help_text())
        return 0 if argv else 2
    if argv[0] not in commands:
        raise UsageError(f"knarr bundle {argv[0]}: not known", hint="use create, load or inventory")
    act, flags = commands[argv[0]]
    given = parse(flags, argv[1:], command=f"knarr bundle {argv[0]}")
    if given.switch("help"):
        print(help_text())
        return 0
    return act(given)


def _create(given: Parsed) -> int:
    from knarr.cli.progress.figures import size
    from knarr.export.vertex import Vertex
    from knarr.image.spot import spot
    from knarr.sync import bundle, inventory
    from knarr.sync.bundleplan import plan

    prefix = given.text("output")
    if not prefix:
        raise UsageError("knarr bundle create needs --output PREFIX", hint="such as -o /media/usb/images")
    spots = [spot(word) for word in words_of(given, "knarr bundle create", "images")]
    volume_size = _bytes(given.text("volume-size"))
    known = inventory.Inventory()
    for path in given.list("since"):
        known |= inventory.read(path)
    with transfer(given) as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        with Vertex(world.sink, f"bundle {prefix}") as vertex:
            found = [_gathered(world, one, registry, stack, given) for one in spots]
            made = plan([(name, closure) for name, closure, _ in found], known.blobs)
            owner = {blob.digest: place for _, closure, place in found for blob in closure.blobs}
            after = known | inventory.of((name, closure) for name, closure, _ in found)
            volumes = bundle.create(
                made,
                lambda piece: owner[piece.blob.digest] if piece.blob else found[0][2],
                prefix,
                after,
                volume_size=volume_size,
                scope=world.scope,
                watch=vertex.watch("writing"),
            )
    print(f"{prefix}{bundle.LIST_ENDING}")
    left = f", {len(made.assumed)} left out" if made.assumed else ""
    count = f"{len(volumes)} volume{'s' if len(volumes) > 1 else ''}"
    print(f"{len(found)} images in {count}, {size(made.size)}: {len(made.included)} blobs{left}")
    return 0


def _gathered(
    world: Transfer, where: Spot, registry: Registry, stack: ExitStack, given: Parsed
) -> tuple[str, Closure, Place]:
    """An image's whole name, what belongs to it, and where it is."""
    from knarr.cli.places import opened_source
    from knarr.image.spot import REGISTRY, STORE
    from knarr.image.wholecopy import gather

    place, root = stack.enter_context(opened_source(world, where, registry))
    if where.kind not in (REGISTRY, STORE) or where.reference is None or not where.reference.tag:
        raise UsageError(f"{where.text}: an image of a bundle needs a name with a tag", hint="write REGISTRY/NAME:TAG")
    reshaped = gather(place, root, scope=world.scope, options=copy_options(given))
    for note in reshaped.notes:
        print(f"note: {where.text}: {note}", file=sys.stderr)
    name = f"{where.reference.registry}/{where.reference.repository}:{where.reference.tag}"
    return name, reshaped.closure, place


def _bytes(text: str) -> int:
    """A size as people write it.

    Raises:
        UsageError
    """
    if not text:
        return 0
    match = _SIZE.fullmatch(text.strip())
    value = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2].lower()] if match else 0
    if value < 1 << 16:
        raise UsageError(f"--volume-size {text}: must be a size of at least 64K, such as 700M or 4G")
    return value


def _load(given: Parsed) -> int:
    from knarr.image.load import open_archive
    from knarr.sync import bundle, inventory
    from knarr.sync.bundleload import names_of

    words = words_of(given, "knarr bundle load", "a bundle")
    to = given.text("to")
    if len(words) != 1 or not (to or given.switch("list")):
        raise UsageError("knarr bundle load needs one bundle, and --to PLACE", hint="see `knarr bundle --help`")
    with transfer(given) as world, ExitStack() as stack:
        listed = bundle.read_list(words[0])
        bundle.check(listed, world.scope)
        volumes = stack.enter_context(bundle.Joined(listed))
        archive = open_archive(cast("BinaryIO", volumes))  # it reads, seeks, and has read_at
        if given.switch("list"):
            for name, entry in names_of(archive).items():
                print(f"{name}@{entry.digest}")
            return 0
        registry = trusting(world, given, stack)
        known = inventory.read(listed.path)
        places = {digest: known.blobs[digest] for digest in known.blobs if digest in listed.assumed}
        return max([_bring(world, archive, name, to, registry, places) for name in names_of(archive)], default=0)


def _bring(
    world: Transfer, archive: Archive, name: str, to: str, registry: Registry, places: dict[Digest, tuple[str, ...]]
) -> int:
    from knarr.cli.places import opened_target
    from knarr.export.vertex import Vertex
    from knarr.image.reshape import described
    from knarr.image.spot import spot
    from knarr.sync.bundleload import load_one

    path = name.partition("/")[2]
    where = spot(f"store:{name}" if to in ("store", "store:") else f"{to.rstrip('/')}/{path}")
    with Vertex(world.sink, f"load {name}") as vertex, opened_target(world, where, registry) as (target, tags):
        loaded = load_one(
            archive,
            name,
            target,
            tag=tags[0] if tags else "",
            scope=world.scope,
            places=places,
            watch=vertex.watch("copying"),
        )
    print(f"{where.text}@{loaded.root.digest}: {described(loaded.outcome.kept)}")
    if loaded.outcome.lost:
        raise KnarrError(f"{where.text}: {len(loaded.outcome.lost)} documents are not there after loading")
    return 0


def _inventory(given: Parsed) -> int:
    from knarr.sync import inventory

    with transfer(given) as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        words = words_of(given, "knarr bundle inventory", "repositories or registries")
        found = inventory.of(_all(world, registry, words))
    text = json.dumps(found.to_json(), indent=1) + "\n"
    if not given.text("output"):
        sys.stdout.write(text)
        return 0
    try:
        with open(given.text("output"), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise KnarrError(f"{given.text('output')}: {error.strerror}") from error
    return 0


def _all(world: Transfer, registry: Registry, words: Sequence[str]) -> Iterator[tuple[str, Closure]]:
    """Every image in repositories, or in all repositories of a registry, by its whole name."""
    from knarr.image.closure import Wanted, explore
    from knarr.spec.reference import Reference
    from knarr.spec.referrers import is_digest_tag, is_fallback_tag

    for word in words:
        host = word.rstrip("/")
        names = [word] if "/" in host else [f"{host}/{name}" for name in registry.catalog(host)]
        for name in names:
            place = registry.repository(Reference.parse(name), scope=world.scope)
            tags = tuple(place.tags())
            for tag in tags:
                if not is_fallback_tag(tag) and not is_digest_tag(tag):
                    wanted = Wanted(sparse=True)
                    root = place.resolve(tag)
                    yield f"{place.name}:{tag}", explore(place, root, scope=world.scope, wanted=wanted, tags=tags)
