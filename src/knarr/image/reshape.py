"""Another form of an image: fewer platforms, or attestations in another place. Pure: a closure in, a closure out.

The manifests of the platforms stay byte for byte; what lists them is written
anew, so the digest of the index changes, and what referred to the old one is left
behind. Both are told.

Attestations have three places: entries of the index (BuildKit), referrers of the
platform they are about (OCI), and tags that hang on its digest (cosign). BuildKit's
newer form has a subject and is the first two at once; its older form gets one when it
moves. Out of a tag goes what nobody signed; envelopes are for those who look there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from knarr.errors import NotFound, UsageError
from knarr.image.closure import ATTESTATION, CHILD, DIGEST_TAG, REFERRER, ROOT, Closure, Node
from knarr.image.edit import with_entries
from knarr.image.select import REFERENCE_DIGEST, REFERENCE_TYPE, images_of, is_attestation, restrict
from knarr.record import record, replace
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import EMPTY, Index, Manifest, encode_index, encode_manifest
from knarr.spec.platform import Platform
from knarr.spec.referrers import entry as entry_of
from knarr.spec.referrers import fallback_tag

ATTESTATION_TYPE = mediatype.ATTESTATION
KEEP, DROP, REFERRERS, INDEX, TAG = "keep", "drop", "referrers", "index", "tag"
PLACES = (KEEP, DROP, REFERRERS, INDEX, TAG)
_ENDING = ".att"
_UNKNOWN = Platform("unknown", "unknown")


@record
class Reshaped:
    """A closure in its new form. `notes` are for people, one sentence each."""

    closure: Closure
    notes: tuple[str, ...] = ()
    left_out: tuple[Node, ...] = ()


def cut(document: Index, platforms: Sequence[Platform]) -> Index | Descriptor:
    """The index over `platforms` and their attestations, or the one manifest that is left.

    Raises:
        NotFound: one of the platforms has no image.
    """
    entries = restrict(document, platforms)
    return entries[0] if len(entries) == 1 else with_entries(document, entries)


def reshape(
    closure: Closure,
    *,
    platforms: Sequence[Platform] = (),
    sparse: bool = False,
    attestations: str = KEEP,
    own_platform: Platform | None = None,
) -> Reshaped:
    """The image for `platforms` only (none: all), its attestations put into another place.

    With `sparse` the index stays as it is, and names platforms that are left out.
    `own_platform` is that of a root without an index, should it get one.

    Raises:
        NotFound: a platform has no image; UsageError: the two wishes exclude each other.
    """
    if attestations not in PLACES:
        raise UsageError(f"attestations {attestations!r}: not known", hint=f"use one of: {', '.join(PLACES)}")
    if sparse and attestations != KEEP:
        raise UsageError("a sparse copy keeps the index as it is, so attestations cannot move")
    work = _Work(closure, own_platform)
    if platforms and not sparse:
        work.cut(platforms)
    if attestations != KEEP:
        work.out_of_tags()
    if attestations == INDEX:
        work.into_index()
    elif attestations in (DROP, REFERRERS, TAG):
        work.out_of_index(keep=attestations != DROP)
    if attestations == TAG:
        work.into_tags()
    return work.result()


class _Work:
    """The new root, and what has changed beside it."""

    def __init__(self, closure: Closure, own_platform: Platform | None) -> None:
        self.closure = closure
        self.own_platform = own_platform
        self.root: Manifest | Index = closure.nodes[closure.root.digest].document
        self.made: dict[Digest, Node] = {}
        self.referrers: dict[Digest, list[Descriptor]] = {
            subject: list(entries) for subject, entries in closure.referrers.items()
        }
        self.digest_tags = dict(closure.digest_tags)
        self.moved: set[Digest] = set()
        self.notes: list[str] = []

    def cut(self, platforms: Sequence[Platform]) -> None:
        if not isinstance(self.root, Index):
            self.notes.append("the image has no index, so there is nothing to choose from by platform")
            return
        kept = cut(self.root, platforms)
        self.root = kept if isinstance(kept, Index) else self.closure.nodes[kept.digest].document

    def out_of_index(self, *, keep: bool) -> None:
        """Take attestations out of the index; with `keep` they become referrers."""
        index = self.root
        if isinstance(index, Index):
            about = [entry for entry in index.manifests if is_attestation(entry)]
            for entry in about if keep else ():
                self._refer(entry)
            if about:
                rest = [entry for entry in index.manifests if entry not in about]
                single = self.closure.nodes.get(rest[0].digest) if len(rest) == 1 else None
                self.root = single.document if single else with_entries(index, rest)
        if not keep:
            # The newer form would come back in as a referrer of its platform.
            for subject, entries in self.referrers.items():
                self.referrers[subject] = [entry for entry in entries if not self._attests(entry.digest)]

    def out_of_tags(self) -> None:
        """Make referrers of the statements in tags that nobody signed."""
        for tag, digest in self.closure.digest_tags.items():
            node = self.closure.nodes.get(digest)
            if not tag.endswith(_ENDING) or node is None or node.of is None or not isinstance(node.document, Manifest):
                continue
            plain = [layer for layer in node.document.layers if layer.media_type == mediatype.IN_TOTO]
            if plain:
                self._attach(self.closure.nodes[node.of], plain)
                self._tag(tag, node.of, [layer for layer in node.document.layers if layer not in plain])

    def into_tags(self) -> None:
        """Put the attestations among the referrers of each digest into its tag, beside what is there."""
        for subject, entries in self.referrers.items():
            documents = [self._document(entry.digest) for entry in entries if self._attests(entry.digest)]
            layers = [layer for one in documents if isinstance(one, Manifest) for layer in one.layers]
            if not layers:
                continue
            self.moved.update(entry.digest for entry in entries if self._attests(entry.digest))
            self.referrers[subject] = [entry for entry in entries if entry.digest not in self.moved]
            tag = f"{fallback_tag(subject)}{_ENDING}"
            there = self._document(self.digest_tags[tag]) if tag in self.digest_tags else None
            kept = there.layers if isinstance(there, Manifest) else ()
            self._tag(tag, subject, [*layers, *(layer for layer in kept if layer not in layers)])

    def _document(self, digest: Digest) -> Manifest | Index | None:
        node = self._node(digest)
        return node.document if node is not None else None

    def _tag(self, tag: str, subject: Digest, layers: Sequence[Descriptor]) -> None:
        """Let `tag` name a manifest with these layers; without any there is no such tag."""
        before = self.digest_tags.pop(tag, None)
        if before is not None:
            self.moved.add(before)
        if layers:
            made = encode_manifest(EMPTY, layers)
            self.made[made.descriptor.digest] = Node(made.descriptor, made, DIGEST_TAG, subject, tag)
            self.digest_tags[tag] = made.descriptor.digest

    def _attests(self, digest: Digest) -> bool:
        node = self._node(digest)
        return node is not None and (node.kind == ATTESTATION or node.document.artifact_type == ATTESTATION_TYPE)

    def _refer(self, entry: Descriptor) -> None:
        node = self.closure.nodes.get(entry.digest)
        subject = self.closure.nodes.get(Digest(entry.annotations.get(REFERENCE_DIGEST, "")))
        if node is None or subject is None or not isinstance(node.document, Manifest):
            return
        self.moved.add(entry.digest)
        if node.document.subject is None:
            self._attach(subject, node.document.layers, node.document.annotations)
        else:
            self._list(subject, node.document)

    def _attach(
        self, subject: Node, layers: Sequence[Descriptor], annotations: Mapping[str, str] | None = None
    ) -> None:
        """Make a referrer of `subject` that has these statements."""
        about = subject.document.descriptor.bare()
        document = encode_manifest(
            EMPTY, layers, annotations=annotations or {}, artifact_type=ATTESTATION_TYPE, subject=about
        )
        self._list(subject, document)

    def _list(self, subject: Node, document: Manifest) -> None:
        made = document.descriptor
        self.made[made.digest] = Node(made, document, REFERRER, subject.descriptor.digest)
        listed = self.referrers.setdefault(subject.descriptor.digest, [])
        if all(other.digest != made.digest for other in listed):
            listed.append(entry_of(document))

    def into_index(self) -> None:
        """List the attestations among the referrers of each platform in the index, as BuildKit does."""
        images = images_of(self.root) if isinstance(self.root, Index) else (self._described(self.root),)
        there = {entry.digest for entry in self.root.manifests} if isinstance(self.root, Index) else set()
        more = [
            Descriptor(
                entry.media_type,
                entry.digest,
                entry.size,
                _UNKNOWN,
                {REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: str(image.digest)},
            )
            for image in images
            for entry in self.referrers.get(image.digest, ())
            if entry.digest not in there and self._attests(entry.digest)
        ]
        if not more:
            return
        if isinstance(self.root, Index):
            self.root = with_entries(self.root, [*self.root.manifests, *more])
        else:
            self.root = encode_index([*images, *more])

    def _described(self, manifest: Manifest) -> Descriptor:
        return replace(manifest.descriptor.bare(), platform=self.own_platform)

    def result(self) -> Reshaped:
        root = self.root.descriptor
        if root.digest == self.closure.root.digest and not self.moved and not self._fewer():
            return Reshaped(self.closure, tuple(self.notes))
        nodes: dict[Digest, Node] = {root.digest: Node(root.bare(), self.root, ROOT)}
        tags: dict[str, Digest] = {}
        self._walk(nodes, tags)
        referrers = {
            subject: tuple(entries) for subject, entries in self.referrers.items() if subject in nodes and entries
        }
        left = tuple(
            node for digest, node in self.closure.nodes.items() if digest not in nodes and digest not in self.moved
        )
        if root.digest != self.closure.root.digest:
            self.notes.append(f"the digest changes from {self.closure.root.digest} to {root.digest}")
            left = tuple(node for node in left if node.kind != ROOT)
        closure = Closure(root.bare(), nodes, referrers, tags, self.closure.absent)
        return Reshaped(closure, tuple(self.notes), left)

    def _fewer(self) -> bool:
        return any(len(self.referrers[subject]) < len(found) for subject, found in self.closure.referrers.items())

    def _walk(self, nodes: dict[Digest, Node], tags: dict[str, Digest]) -> None:
        """Add everything that belongs to what is in `nodes`."""
        hung = _by_subject_tag(self.digest_tags)
        todo = list(nodes.values())
        while todo:
            node = todo.pop()
            digest = node.descriptor.digest
            found: list[Node] = []
            if isinstance(node.document, Index):
                found += (self._as_child(entry) for entry in node.document.manifests if self._node(entry.digest))
            referring = (self._node(entry.digest) for entry in self.referrers.get(digest, ()))
            found += (one for one in referring if one is not None)
            for tag in hung.get(fallback_tag(digest), ()):
                hanging = self._node(self.digest_tags[tag])
                if hanging:
                    tags[tag] = hanging.descriptor.digest
                    found.append(replace(hanging, kind=DIGEST_TAG, of=digest, tag=tag))
            for one in found:
                if one.descriptor.digest not in nodes:
                    nodes[one.descriptor.digest] = one
                    todo.append(one)

    def _node(self, digest: Digest) -> Node | None:
        return self.made.get(digest) or self.closure.nodes.get(digest)

    def _as_child(self, entry: Descriptor) -> Node:
        node = self._node(entry.digest)
        if node is None:
            raise NotFound(f"{entry.digest} was not read")
        return replace(node, kind=ATTESTATION if is_attestation(entry) else CHILD)


def _by_subject_tag(digest_tags: Mapping[str, Digest]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tag in digest_tags:
        found.setdefault(tag.partition(".")[0], []).append(tag)
    return found


def described(nodes: Iterable[Node]) -> str:
    """How many documents of which kind, in words: `2 platforms, 1 attestation`."""
    words = {
        ROOT: ("image", "images"),
        CHILD: ("platform", "platforms"),
        ATTESTATION: ("attestation", "attestations"),
        REFERRER: ("referrer", "referrers"),
        DIGEST_TAG: ("digest tag", "digest tags"),
    }
    counts = dict.fromkeys(words, 0)
    for node in nodes:
        counts[node.kind] += 1
    parts = [f"{count} {words[kind][count > 1]}" for kind, count in counts.items() if count]
    return ", ".join(parts) or "nothing"
