"""`knarr delete`: take images away from a registry or a layout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.cli.transfer import words_of
from knarr.errors import KnarrError, NotFound, UsageError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed
    from knarr.cli.transfer import Transfer
    from knarr.image.layoutrepository import LayoutRepository
    from knarr.image.spot import Spot
    from knarr.remote.repository import Registry, Repository
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest

FLAGS = (
    Flag(
        "with-referrers", Kind.SWITCH, "", "what refers to the image, too, unless another tag has it: signatures, SBOMs"
    ),
    Flag("dry-run", Kind.SWITCH, "", "say what would be deleted, and delete nothing", short="n"),
    Flag("force", Kind.SWITCH, "", "an image that is not there is no failure", short="f"),
    Flag("format", Kind.TEXT, "FORM", "json: one object for each thing that was deleted"),
    Flag("insecure", Kind.LIST, "HOST", "do not check this registry's certificate; plain HTTP if it has no TLS"),
    Flag("quiet", Kind.SWITCH, "", "print nothing", short="q"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr delete --help` prints."""
    return (
        "Usage: knarr delete [OPTIONS] NAME:TAG|NAME@DIGEST...\n\n"
        "Delete images in a registry, or in a layout (oci:DIR:TAG). A tag alone goes, and its image stays\n"
        "for other tags and for who knows the digest; a digest goes with all tags it has. Of a registry that\n"
        "deletes by digest only, a tag goes with its image, unless another tag has the same. The space is\n"
        "freed by the registry's own collection. Images in the store go with `knarr rmi`.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr delete ARGUMENTS`; images after one that fails are deleted, too."""
    from knarr.cli.copy import trusting
    from knarr.cli.transfer import quiet_transfer

    given = parse(FLAGS, argv, command="knarr delete")
    if given.switch("help"):
        print(help_text())
        return 0
    if given.text("format") not in ("", "json"):
        raise UsageError(f"--format {given.text('format')}: there is only json")
    spots = [_spot(word) for word in words_of(given, "knarr delete", "an image")]
    status = 0
    with quiet_transfer() as world, ExitStack() as stack:
        registry = trusting(world, given, stack)
        for where in spots:
            try:
                for gone in _delete(world, registry, where, given):
                    _show(gone, given)
            except NotFound as error:
                if not given.switch("force"):
                    status = _failed(error)
            except KnarrError as error:
                status = _failed(error)
    return status


def _failed(error: KnarrError) -> int:
    print(error.render(), file=sys.stderr)
    return error.exit_code


def _spot(word: str) -> Spot:
    """What to delete, with a tag or a digest that was written: nobody means `latest` by leaving it out."""
    from knarr.image.spot import LAYOUT, REGISTRY, STORE, spot
    from knarr.spec.reference import Reference

    found = spot(word)
    if found.kind == STORE:
        raise UsageError(f"{word}: the store is not a registry", hint=f"use `knarr rmi {found.reference}`")
    if found.kind not in (REGISTRY, LAYOUT):
        raise UsageError(f"{word}: nothing can be deleted there", hint="name an image in a registry or in oci:DIR")
    if found.kind == REGISTRY:
        written = Reference.parse(word.removeprefix("docker://"))
        named = bool(written.tag or written.digest)
    else:
        named = bool(found.tag)
    if not named:
        raise UsageError(f"{word}: which tag or digest?", hint=f"`knarr tags {word}` lists what is there")
    return found


@record
class _Gone:
    """One thing that was, or would be, deleted: `kind` is tag, manifest or referrer."""

    kind: str
    name: str
    digest: str


def _show(gone: _Gone, given: Parsed) -> None:
    if given.text("format") == "json":
        dry = {"dryRun": True} if given.switch("dry-run") else {}
        print(json.dumps({"kind": gone.kind, "name": gone.name, "digest": gone.digest, **dry}), flush=True)
    elif not given.switch("quiet"):
        word = "would delete" if given.switch("dry-run") else "deleted"
        print(f"{word} {gone.name}" + (f" ({gone.digest})" if gone.kind == "tag" else ""), flush=True)


def _delete(world: Transfer, registry: Registry, where: Spot, given: Parsed) -> Iterator[_Gone]:
    """Delete what one word names; what was deleted, one after the other."""
    place = _open(world, registry, where)
    tag = where.reference.tag if where.reference is not None else where.tag
    digest = where.reference.digest if where.reference is not None else None
    if digest is None and ":" in tag:  # behind the @ of a layout
        from knarr.spec.digest import Digest

        digest = Digest.parse(tag)
    root = place.resolve(str(digest) if digest is not None else tag)
    others = _Others(world, place, tag if digest is None else "")
    belonging = _belonging(place, root, set()) if given.switch("with-referrers") else []
    if belonging and digest is None and root.digest in others:
        belonging = []  # another tag has it still
    dry = given.switch("dry-run")
    if digest is not None:
        yield from _whole(place, digest, dry=dry)
    else:
        yield _tag(place, tag, others, root, dry=dry)
    for one in belonging:
        yield from _referrer(place, one, dry=dry)
    if given.switch("with-referrers") and (digest is not None or root.digest not in others):
        yield from _hanging(place, root.digest, others.tags, dry=dry)


def _open(world: Transfer, registry: Registry, where: Spot) -> Repository | LayoutRepository:
    if where.reference is not None:
        return registry.repository(where.reference, scope=world.scope)
    from pathlib import Path

    from knarr.image.layoutrepository import LayoutRepository

    return LayoutRepository.at(Path(where.path))


class _Others:
    """The digests that the other tags of a repository have, asked for when somebody wants to know."""

    def __init__(self, world: Transfer, place: Repository | LayoutRepository, tag: str) -> None:
        self._world, self._place, self._tag = world, place, tag
        self._tags: list[str] | None = None
        self._digests: set[str] | None = None

    @property
    def tags(self) -> Sequence[str]:
        """All tags there were."""
        if self._tags is None:
            self._tags = list(self._place.tags())
        return self._tags

    def __contains__(self, digest: object) -> bool:
        from knarr.image.copy import each
        from knarr.spec.referrers import is_digest_tag, is_fallback_tag

        if self._digests is None:
            tags = [tag for tag in self.tags if tag != self._tag and not (is_digest_tag(tag) or is_fallback_tag(tag))]
            self._digests = set(each(self._digest, tags, scope=self._world.scope, jobs=8))
        return digest in self._digests

    def _digest(self, tag: str) -> str:
        try:
            return str(self._place.resolve(tag).digest)
        except NotFound:  # gone meanwhile
            return ""


def _tag(place: Repository | LayoutRepository, tag: str, others: _Others, root: Descriptor, *, dry: bool) -> _Gone:
    from knarr.image.removal import remove_tag

    digest = root.digest if dry else remove_tag(place, tag, others)
    return _Gone("tag", f"{place.name}:{tag}", str(digest))


def _whole(place: Repository | LayoutRepository, digest: Digest, *, dry: bool) -> Iterator[_Gone]:
    """A manifest with all its tags; a layout has nothing but tags to take away."""
    from knarr.image.layoutrepository import LayoutRepository

    if isinstance(place, LayoutRepository):
        for tag in [tag for tag in place.tags() if place.resolve(tag).digest == digest]:
            if not dry:
                place.delete_tag(tag)
            yield _Gone("tag", f"{place.name}:{tag}", str(digest))
        return
    if not dry:
        place.delete(str(digest))
    yield _Gone("manifest", f"{place.name}@{digest}", str(digest))


def _belonging(place: Repository | LayoutRepository, root: Descriptor, seen: set[Digest]) -> list[Descriptor]:
    """What refers to an image, and what refers to that, leaves first."""
    found: list[Descriptor] = []
    for one in place.predecessors(root.bare()):
        if one.digest not in seen:
            seen.add(one.digest)
            found += [*_belonging(place, one, seen), one]
    return found


def _referrer(place: Repository | LayoutRepository, one: Descriptor, *, dry: bool) -> Iterator[_Gone]:
    from knarr.image.layoutrepository import LayoutRepository

    if isinstance(place, LayoutRepository):
        return  # listed by a tag, which goes with the others
    if not dry:
        try:
            place.delete(str(one.digest))
        except NotFound:  # the registry took it along
            return
    yield _Gone("referrer", f"{place.name}@{one.digest}", str(one.digest))


def _hanging(
    place: Repository | LayoutRepository, digest: Digest, there: Sequence[str], *, dry: bool
) -> Iterator[_Gone]:
    from knarr.image.removal import hanging_tags, remove_hanging

    for tag in hanging_tags(digest, there) if dry else remove_hanging(place, digest, there):
        yield _Gone("tag", f"{place.name}:{tag}", "")
