"""Put a whole closure somewhere else, then look there for what has arrived.

Blobs go first, then documents: whatever a document needs before it, referrers and
digest tags before the root, and the root under its tags last. Who sees the tag
move therefore finds everything. In the end the target is asked anew: for every
document, for every list of referrers, for every tag. What it does not show is
lost, whatever it answered before.

    outcome = copy_closure(closure, source, target, tags=("1.0",), scope=scope)
    assert not outcome.lost
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import nullcontext
from typing import Protocol

from knarr.content.target import Fetcher, Predecessors, Pusher, Resolver
from knarr.errors import NotFound
from knarr.image.closure import DIGEST_TAG, ROOT, Closure, Node, Turn
from knarr.image.copy import COPIED, PRESENT, CopyReport, MountsOf, Tally, Watch, copy_blob, each
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest


class Destination(Fetcher, Pusher, Resolver, Predecessors, Protocol):
    """Where a closure can go: a repository, or a layout that is looked at as one."""

    @property
    def complete(self) -> bool:
        """Whether a document that is there has everything that it names."""
        ...

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "") -> None:
        """Store a document, under a tag if one is given; one with a subject is listed with its referrers."""
        ...


Once = Callable[[Descriptor, Callable[[], str]], str]


def _always(blob: Descriptor, send: Callable[[], str]) -> str:
    return send()


@record
class Lost:
    """Something of the closure that the target does not show."""

    node: Node
    why: str


@record
class CopyOutcome:
    """What moved, and what the target shows in the end."""

    report: CopyReport
    kept: tuple[Node, ...]
    lost: tuple[Lost, ...] = ()

    changed: bool = True  # whether anything was sent, be it only a tag


def copy_closure(
    closure: Closure,
    source: Fetcher,
    target: Destination,
    *,
    tags: Sequence[str] = (),
    scope: Scope,
    jobs: int = 4,
    turn: Turn = nullcontext,
    watch: Watch | None = None,
    mounts_of: MountsOf | None = None,
    known: Set[Digest] = frozenset(),
    once: Once = _always,
    verify: bool = True,
    absent: bool = False,
) -> CopyOutcome:
    """Make `target` have `closure`, its root under `tags` (none: by digest alone).

    Blobs in `known` are at the target already. `mounts_of` names repositories on the
    target's registry to take blobs from. `once` is for who copies several images to one
    place: it sends a blob, or waits for another who sends it there. `absent`: the root was just
    seen not to be there, and is not asked for again.

    Raises:
        NotFound, DigestMismatch, SizeMismatch: the source gave less or other than it named.
        RegistryError, Cancelled: no tag has moved then; what has arrived whole stays.
    """
    transfer = _Transfer(closure, source, target, scope, jobs, turn, Tally(watch))
    there = frozenset[Digest]() if absent and target.complete else transfer.find()
    transfer.move_blobs(there, known, watch, mounts_of, once)
    transfer.push_documents(there)
    transfer.set_tags(tags, there)
    kept, lost = transfer.verify(tags) if verify else (tuple(closure.nodes.values()), ())
    report = transfer.tally.report()
    return CopyOutcome(report, kept, lost, transfer.sent or bool(report.copied or report.mounted))


class _Transfer:
    """One copy under way."""

    def __init__(
        self,
        closure: Closure,
        source: Fetcher,
        target: Destination,
        scope: Scope,
        jobs: int,
        turn: Turn,
        tally: Tally,
    ) -> None:
        self.closure, self.source, self.target = closure, source, target
        self.scope, self.jobs, self.turn, self.tally = scope, jobs, turn, tally
        self.pushed: set[Digest] = set()
        self.sent = False  # a document, if only to set a tag

    def find(self) -> frozenset[Digest]:
        """The documents that the target has already; a registry that lacks the root is not asked for the rest.

        To send a manifest costs as much as to ask for it, and those below a root that is not there seldom are.
        """
        root = self.closure.nodes[self.closure.root.digest]
        if not self.target.complete:
            return self._shown(tuple(self.closure.nodes.values()))
        if not self._present(root):
            return frozenset()
        return self._shown([node for node in self.closure.nodes.values() if node is not root]) | {
            root.descriptor.digest
        }

    def _shown(self, nodes: Sequence[Node]) -> frozenset[Digest]:
        """Those of `nodes` that the target shows."""
        return frozenset(digest for digest in each(self._present, nodes, scope=self.scope, jobs=self.jobs) if digest)

    def _present(self, node: Node) -> Digest | None:
        with self.turn():
            return node.descriptor.digest if self.target.has(node.descriptor) else None

    def move_blobs(
        self,
        there: Set[Digest],
        known: Set[Digest],
        watch: Watch | None,
        mounts_of: MountsOf | None,
        once: Once,
    ) -> None:
        blobs: dict[Digest, Descriptor] = {}
        for digest, node in self.closure.nodes.items():
            if digest not in there or not self.target.complete:
                blobs.update((blob.digest, blob) for blob in self.closure.blobs_of(node))
        halt = Scope()
        fresh = self.closure.root.digest not in there

        def send(blob: Descriptor) -> str:
            expected = not (fresh and self.target.complete)
            with self.turn():
                return copy_blob(self.source, self.target, blob, watch, mounts_of, check=halt.check, expected=expected)

        def move(blob: Descriptor) -> None:
            try:
                self.tally.add(blob, PRESENT if blob.digest in known else once(blob, lambda: send(blob)))
            except BaseException:
                halt.cancel()  # the others stop at their next chunk, and not when they are done
                raise

        with self.scope.on_cancel(halt.cancel):
            # The largest first: the end of the copy is then not one thread with one large blob.
            each(
                move,
                sorted(blobs.values(), key=lambda blob: blob.size, reverse=True),
                scope=self.scope,
                jobs=self.jobs,
            )

    def push_documents(self, there: Set[Digest]) -> None:
        """Everything but the root; a digest tag is set with its document."""
        for level in self._levels():
            missing = [node for node in level if node.descriptor.digest not in there]
            each(self._push, missing, scope=self.scope, jobs=self.jobs)
        for digest in there:
            self.tally.finish(self.closure.nodes[digest].descriptor, PRESENT)
        for tag, digest in self.closure.digest_tags.items():
            node = self.closure.nodes[digest]
            if not (digest in self.pushed and node.tag == tag) and self._resolved(tag) != digest:
                self._put(node, tag)

    def _push(self, node: Node) -> None:
        self._put(node, node.tag if node.kind == DIGEST_TAG else "")
        self.pushed.add(node.descriptor.digest)
        self.tally.finish(node.descriptor, COPIED)

    def _put(self, node: Node, tag: str) -> None:
        self.sent = True
        with self.turn():
            self.target.push_manifest(node.document.descriptor.bare(), node.raw, tag=tag)

    def set_tags(self, tags: Sequence[str], there: Set[Digest]) -> None:
        root = self.closure.nodes[self.closure.root.digest]
        is_there = root.descriptor.digest in there
        for tag in tags or ("",):
            if is_there and (not tag or self._resolved(tag) == root.descriptor.digest):
                continue
            self._put(root, tag)
        if not is_there:
            self.tally.finish(root.descriptor, COPIED)

    def _levels(self) -> Iterable[list[Node]]:
        """The documents by what they need, those that need none first; without the root."""
        level: dict[Digest, int] = {}
        for node in self.closure.nodes.values():
            self._level(node, level)
        found: list[list[Node]] = [[] for _ in range(max(level.values()) + 1)]
        for node in self.closure.nodes.values():
            if node.kind != ROOT:
                found[level[node.descriptor.digest]].append(node)
        return found

    def _level(self, node: Node, level: dict[Digest, int]) -> int:
        # Digests make no circles, and `explore` bounds the depth.
        digest = node.descriptor.digest
        if digest not in level:
            below = [self._level(self.closure.nodes[child], level) for child in self.closure.documents_of(node)]
            level[digest] = max(below, default=-1) + 1
        return level[digest]

    def _resolved(self, tag: str) -> Digest | None:
        with self.turn():
            try:
                return self.target.resolve(tag).digest
            except NotFound:
                return None

    def verify(self, tags: Sequence[str]) -> tuple[tuple[Node, ...], tuple[Lost, ...]]:
        """What the target shows now."""
        nodes = self.closure.nodes
        subjects = tuple(self.closure.referrers)
        unlisted = {
            digest for found in each(self._unlisted, subjects, scope=self.scope, jobs=self.jobs) for digest in found
        }
        root = self.closure.root.digest
        # A tag that leads to the root also says that it is there.
        astray = {tag for tag in tags if self._resolved(tag) != root}
        asked = [node for digest, node in nodes.items() if digest != root or not tags or astray]
        missing = {node.descriptor.digest for node in asked} - self._shown(asked)
        if missing:
            each(lambda digest: self._put(nodes[digest], ""), tuple(missing), scope=self.scope, jobs=self.jobs)
            missing -= self._shown([nodes[digest] for digest in missing])
        why = {digest: "the target took it, and does not have it" for digest in nodes if digest in missing}
        for tag in astray:
            why.setdefault(root, f"tag {tag} leads elsewhere")
        for tag, digest in self.closure.digest_tags.items():
            if self._resolved(tag) != digest:
                why.setdefault(digest, f"tag {tag} does not lead to it")
        for digest in unlisted:
            why.setdefault(digest, "the target does not list it as a referrer")
        kept = tuple(node for digest, node in nodes.items() if digest not in why)
        return kept, tuple(Lost(nodes[digest], text) for digest, text in why.items())

    def _unlisted(self, subject: Digest) -> list[Digest]:
        """The referrers of one document that its target does not list, after a second try."""
        missing = self._not_among([entry.digest for entry in self.closure.referrers[subject]], subject)
        for digest in missing:
            # It was there before us, pushed by a client that lists nothing; or another writer of the list won.
            self._put(self.closure.nodes[digest], "")
        return self._not_among(missing, subject) if missing else []

    def _not_among(self, wanted: Sequence[Digest], subject: Digest) -> list[Digest]:
        with self.turn():
            listed = {entry.digest for entry in self.target.predecessors(self.closure.nodes[subject].descriptor)}
        return [digest for digest in wanted if digest not in listed]
