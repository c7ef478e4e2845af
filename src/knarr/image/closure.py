"""All that belongs to an image: what it consists of, and what others said about it.

Downwards a manifest leads to its config and layers, an index to its manifests,
in-index attestations among them. Sideways any of these documents may have
referrers (its own registry knows them), and tags whose form hangs something on a
digest (cosign's `sha256-<hex>.sig`). Those are documents, too, and may have their
own: an SBOM that is signed.

    closure = explore(repository, root, scope=scope)
    closure.nodes[root.digest].document

A source answers what it is able to: without the talents `Predecessors` or
`Tagged` there is just nothing sideways. It may also lie: what it lists is
believed only when the bytes say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from typing import Protocol, runtime_checkable

from knarr.content.target import Fetcher, Predecessors, Resolver
from knarr.errors import ContentError, KnarrError, NotFound
from knarr.image.copy import each
from knarr.image.select import is_attestation, restrict
from knarr.image.successors import is_document, read_small
from knarr.record import field, record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, Manifest, decode
from knarr.spec.platform import Platform
from knarr.spec.referrers import DIGEST_TAG_ENDINGS, fallback_tag, is_digest_tag

ROOT, CHILD, ATTESTATION, REFERRER, DIGEST_TAG = "root", "child", "attestation", "referrer", "digest tag"

_MAX_NODES = 20_000  # documents of one image; a hostile registry cannot send us on for ever
_MAX_DEPTH = 8  # of indexes in indexes

Turn = Callable[[], AbstractContextManager[object]]
"""Held while something is asked or sent: how a caller bounds what runs at a time."""


@runtime_checkable
class Tagged(Protocol):
    """A place that lists its tags."""

    def tags(self) -> Iterable[str]: ...


@runtime_checkable
class ByTags(Protocol):
    """A place that may know referrers by their tags alone; then its list of tags says all."""

    @property
    def lacks_referrers(self) -> bool: ...


@record
class ReferrerFilter:
    """Which referrers are wanted: of a type (a glob; empty: any) that carry all of these annotations."""

    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    def takes(self, found: Descriptor) -> bool:
        if self.artifact_type and not fnmatchcase(found.artifact_type, self.artifact_type):
            return False
        return all(found.annotations.get(key) == value for key, value in self.annotations.items())


@record
class Wanted:
    """What of an image is to be followed. By default everything."""

    platforms: tuple[Platform, ...] = ()  # of a root index; empty: all
    referrers: bool = True
    filters: tuple[ReferrerFilter, ...] = ()  # of referrers; empty: all
    digest_tags: bool = True
    sparse: bool = False  # children that the source lacks are passed over


@record
class Node:
    """One document of a closure. `of`: what it hangs on; `tag`: of a digest tag, its name."""

    descriptor: Descriptor
    document: Manifest | Index
    kind: str
    of: Digest | None = None
    tag: str = ""
    depth: int = 0

    @property
    def raw(self) -> bytes:
        return self.document.raw


@record
class Absent:
    """Something that was named and is not there, or is not what it was said to be."""

    descriptor: Descriptor
    why: str


@record
class Closure:
    """The documents of an image by digest, the root first."""

    root: Descriptor
    nodes: Mapping[Digest, Node]
    referrers: Mapping[Digest, tuple[Descriptor, ...]]  # subject → those that were found, as they were listed
    digest_tags: Mapping[str, Digest]
    absent: tuple[Absent, ...] = ()

    def blobs_of(self, node: Node) -> Iterator[Descriptor]:
        """What a document needs besides other documents; foreign layers live where their `urls` say."""
        for child in node.document.successors:
            if child.digest not in self.nodes and not is_document(child.media_type) and not _is_elsewhere(child):
                yield child

    def documents_of(self, node: Node) -> Iterator[Digest]:
        """The documents below one that are in the closure."""
        return (child.digest for child in node.document.successors if child.digest in self.nodes)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob of every document, each once."""
        found = {blob.digest: blob for node in self.nodes.values() for blob in self.blobs_of(node)}
        return tuple(found.values())

    def count(self, kind: str) -> int:
        return sum(node.kind == kind for node in self.nodes.values())


def explore(
    source: Fetcher,
    root: Descriptor,
    *,
    scope: Scope,
    wanted: Wanted | None = None,
    jobs: int = 4,
    turn: Turn = nullcontext,
    tags: Sequence[str] | None = None,
) -> Closure:
    """Read every document that belongs to `root`.

    `tags` are those of the source, when the caller has listed them already.

    Raises:
        NotFound: `source` lacks the root or something it needs, or the index one of the platforms.
        ContentError: a document is malformed, or there is no end to them.
        RegistryError: the source failed; Cancelled.
    """
    wanted = wanted or Wanted()
    expedition = _Expedition(source, wanted, scope, jobs, turn, tags)
    return expedition.run(root)


@record
class _Step:
    """A document that is to be read, and why."""

    descriptor: Descriptor
    kind: str
    of: Digest | None = None
    tag: str = ""
    depth: int = 0

    @property
    def is_needed(self) -> bool:
        """Whether the image is broken without it."""
        return self.kind in (ROOT, CHILD, ATTESTATION)


class _Expedition:
    """The closure in the making, wave by wave; owned by one thread, which sends others to read."""

    def __init__(
        self, source: Fetcher, wanted: Wanted, scope: Scope, jobs: int, turn: Turn, tags: Sequence[str] | None
    ) -> None:
        self.source, self.wanted = source, wanted
        self.scope, self.jobs, self.turn = scope, jobs, turn
        self.nodes: dict[Digest, Node] = {}
        self.referrers: dict[Digest, tuple[Descriptor, ...]] = {}
        self.digest_tags: dict[str, Digest] = {}
        self.absent: list[Absent] = []
        self._given = tags
        self._tags: frozenset[str] | None = None
        self._by_digest: dict[str, list[str]] = {}
        self._guesses = False  # the tags could not be listed

    def run(self, root: Descriptor) -> Closure:
        wave = [_Step(root, ROOT)]
        while wave:
            fresh = {
                step.descriptor.digest: step for step in reversed(wave) if step.descriptor.digest not in self.nodes
            }
            if len(self.nodes) + len(fresh) > _MAX_NODES:
                raise ContentError(f"{root.digest}: more than {_MAX_NODES} manifests belong to it")
            steps = tuple(fresh.values())
            read = [node for node in each(self._read, steps, scope=self.scope, jobs=self.jobs) if node is not None]
            self.nodes.update((node.descriptor.digest, node) for node in read)
            wave = [step for node in read for step in self._below(node)]
            for sideways in each(self._beside, read, scope=self.scope, jobs=self.jobs):
                wave += sideways
        # In an order that does not depend on which thread came first: what is written of it has one form.
        believed = {
            digest: tuple(self._believed(digest, self.referrers[digest]))
            for digest in self.nodes
            if digest in self.referrers
        }
        referrers = {subject: listed for subject, listed in believed.items() if listed}
        tags = {tag: digest for tag, digest in sorted(self.digest_tags.items()) if digest in self.nodes}
        absent = tuple(sorted(self.absent, key=lambda one: one.descriptor.digest))
        return Closure(root, self.nodes, referrers, tags, absent)

    def _believed(self, subject: Digest, listed: Iterable[Descriptor]) -> Iterator[Descriptor]:
        """Those listed as referrers of `subject` that were read and name it."""
        for entry in listed:
            node = self.nodes.get(entry.digest)
            if node is None:
                continue  # told by who read it
            if node.document.subject is None or node.document.subject.digest != subject:
                self.absent.append(Absent(entry, f"is listed as a referrer of {subject}, and does not name it"))
                continue
            yield entry

    def _read(self, step: _Step) -> Node | None:
        descriptor = step.descriptor
        try:
            with self.turn():
                raw = read_small(self.source, descriptor, limit=MAX_MANIFEST_BYTES)
            document = decode(raw, descriptor.media_type)
        except NotFound as error:
            if step.is_needed and not (self.wanted.sparse and step.kind != ROOT):
                raise _missing(error, step) from None
            self.absent.append(Absent(descriptor, f"{step.kind} is not at the source"))
            return None
        except ContentError as error:
            if step.is_needed:
                raise
            self.absent.append(Absent(descriptor, f"{step.kind} is unusable: {error.message}"))
            return None
        if step.kind == REFERRER and (document.subject is None or document.subject.digest != step.of):
            self.absent.append(Absent(descriptor, f"is listed as a referrer of {step.of}, and does not name it"))
            return None
        return Node(descriptor, document, step.kind, step.of, step.tag, step.depth)

    def _below(self, node: Node) -> Iterator[_Step]:
        document = node.document
        if isinstance(document, Manifest):
            return
        if node.depth == _MAX_DEPTH:
            raise ContentError(f"{node.descriptor.digest}: indexes are nested more than {_MAX_DEPTH} deep")
        entries = document.manifests
        if node.kind == ROOT and self.wanted.platforms:
            entries = restrict(document, self.wanted.platforms)
        for child in entries:
            if is_document(child.media_type):
                kind = ATTESTATION if is_attestation(child) else CHILD
                yield _Step(child, kind, node.descriptor.digest, depth=node.depth + 1)

    def _beside(self, node: Node) -> list[_Step]:
        """What hangs on a document, as its source tells."""
        digest = node.descriptor.digest
        found: list[_Step] = []
        if self.wanted.referrers and isinstance(self.source, Predecessors):
            listed = [entry for entry in self._listed(node) if self._is_wanted(entry)]
            if listed:
                self.referrers[digest] = tuple(listed)
                found += [_Step(entry, REFERRER, digest) for entry in listed]
        if self.wanted.digest_tags:
            found += self._tagged(digest)
        return found

    def _listed(self, node: Node) -> Iterable[Descriptor]:
        assert isinstance(self.source, Predecessors)
        tags, tag = self._all_tags(), fallback_tag(node.descriptor.digest)
        listed: dict[Digest, Descriptor] = {}
        by_tags = isinstance(self.source, ByTags) and self.source.lacks_referrers
        if not by_tags or self._guesses:
            with self.turn():
                listed.update((entry.digest, entry) for entry in self.source.predecessors(node.descriptor))
        # A registry may have the API and not have taken up the lists that clients kept in tags before.
        if tag in tags and isinstance(self.source, Resolver):
            try:
                with self.turn():
                    index = self._named(tag)
            except NotFound:
                index = None
            # cosign's copies have such tags, too: names of what they copy, and no lists.
            if isinstance(index, Index) and index.descriptor.digest != node.descriptor.digest:
                for entry in index.manifests:
                    listed.setdefault(entry.digest, entry)
        return listed.values()

    def _is_wanted(self, entry: Descriptor) -> bool:
        filters = self.wanted.filters
        return is_document(entry.media_type) and (not filters or any(one.takes(entry) for one in filters))

    def _named(self, tag: str) -> Manifest | Index:
        assert isinstance(self.source, Resolver)
        found = self.source.resolve(tag)
        return decode(read_small(self.source, found, limit=MAX_MANIFEST_BYTES), found.media_type)

    def _tagged(self, digest: Digest) -> list[_Step]:
        if not isinstance(self.source, Resolver):
            return []
        self._all_tags()
        found: list[_Step] = []
        start = fallback_tag(digest)
        guessed = [f"{start}.{ending}" for ending in DIGEST_TAG_ENDINGS] if self._guesses else []
        for tag in self._by_digest.get(start, guessed):
            try:
                with self.turn():
                    descriptor = self.source.resolve(tag)
            except NotFound:
                continue  # it went away since the tags were listed, or was only guessed
            self.digest_tags[tag] = descriptor.digest
            found.append(_Step(descriptor, DIGEST_TAG, digest, tag))
        return found

    def _all_tags(self) -> frozenset[str]:
        if self._tags is None:
            tags = self._given
            if tags is None:
                tags = self._list_tags()
            by_digest: dict[str, list[str]] = {}
            for tag in tags:
                if is_digest_tag(tag):
                    by_digest.setdefault(tag.partition(".")[0], []).append(tag)
            self._by_digest = by_digest
            self._tags = frozenset(tags)
        return self._tags

    def _list_tags(self) -> Sequence[str]:
        if not isinstance(self.source, Tagged):
            return ()
        try:
            with self.turn():
                return tuple(self.source.tags())
        except KnarrError as error:
            # Some registries grant pull and no listing; then the usual endings are tried.
            if not isinstance(error, NotFound) and getattr(error, "status", 0) not in (401, 403, 404, 405):
                raise
            self._guesses = True
            return ()


def _missing(error: NotFound, step: _Step) -> NotFound:
    if step.kind == ROOT:
        return error
    return NotFound(
        f"{step.descriptor.digest}, which index {step.of} lists, is not at the source",
        hint="the source has only a part of the image: name its platforms, or copy what is there with --sparse",
    )


def _is_elsewhere(layer: Descriptor) -> bool:
    return bool(layer.urls) and ("nondistributable" in layer.media_type or ".foreign." in layer.media_type)
