"""One copy for everything: push, pull, save, load and sync move images with `copy_graph`.

First the documents are read, level by level, which is all it takes to know what
there is to move. Then the blobs move, several at a time, each of them looked for
at the target, mounted from a sibling repository if possible, and streamed
otherwise. Documents follow, deepest level first, so whoever finds a manifest at
the target finds what it names. Naming the root is left to the caller, who does it last.

    report = copy_graph(repository, store, root, scope=scope)
    store.tag(root, str(reference))
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast

from knarr.content.target import Fetcher, Mounter, Pusher
from knarr.errors import ContentError
from knarr.image.select import restrict
from knarr.image.successors import is_document, read_small
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, decode
from knarr.spec.platform import Platform
from knarr.streams import Readable

T = TypeVar("T")
R = TypeVar("R")

MOVING, COPIED, PRESENT, MOUNTED = "moving", "copied", "present", "mounted"

Watch = Callable[[Descriptor, int, str], None]
"""Told of (descriptor, bytes so far, one of the four words above); may be called from several threads at once."""

MountsOf = Callable[[Descriptor], Iterable[str]]
"""The repositories on the target's registry that may have a blob already, best first."""


class Place(Fetcher, Pusher, Protocol):
    """Somewhere content can be put, looked for and read back."""


_UNASKED = 512 << 10  # bytes that cost less to send than to ask for, where they are not expected: 40 ms at 100 Mbit/s
_MAX_DEPTH = 8  # levels of documents; a hostile index cannot send us further down


@record
class CopyReport:
    """What was moved and what did not have to be."""

    copied: tuple[Descriptor, ...] = ()
    present: tuple[Descriptor, ...] = ()
    mounted: tuple[Descriptor, ...] = ()

    @property
    def copied_bytes(self) -> int:
        return sum(descriptor.size for descriptor in self.copied)


def copy_graph(
    source: Fetcher,
    target: Place,
    root: Descriptor,
    *,
    scope: Scope,
    jobs: int = 4,  # transfers at a time; registries answer more with 429, BuildKit's default is the same
    platforms: Sequence[Platform] | None = None,
    watch: Watch | None = None,
    mounts_of: MountsOf | None = None,
    sparse_target: bool = False,
    below_only: bool = False,
) -> CopyReport:
    """Make `target` have `root` and everything below it.

    With `platforms`, only those entries of a root index (and the attestations
    about them) are followed; the index itself is copied as it is, so its digest
    stays. `sparse_target` says that the target may have a document without its
    children, as our own store after such a copy; a registry never has. With
    `below_only` the root itself is left to the caller, who may push it under a tag.

    Raises:
        NotFound: `source` lacks something, or the index one of `platforms`.
        DigestMismatch, SizeMismatch: `source` gave other bytes than it named.
        Cancelled: `scope` was cancelled; what has arrived whole stays.
    """
    tally = Tally(watch)
    plan = _Plan(source, target, scope, jobs, tally, sparse_target)
    plan.explore(root, platforms)
    # The largest first: the end of the copy is then not one thread with one large blob.
    blobs = sorted(plan.blobs.values(), key=lambda blob: blob.size, reverse=True)
    halt = Scope()

    def move(blob: Descriptor) -> None:
        try:
            tally.add(blob, copy_blob(source, target, blob, watch, mounts_of, check=halt.check))
        except BaseException:
            halt.cancel()  # the others stop at their next chunk, and not when they are done
            raise

    with scope.on_cancel(halt.cancel):
        each(move, blobs, scope=scope, jobs=jobs)
    for level in reversed(plan.levels[1:] if below_only else plan.levels):
        each(lambda document: _push_document(target, document, tally), level, scope=scope, jobs=jobs)
    return tally.report()


def copy_blob(
    source: Fetcher,
    target: Pusher,
    blob: Descriptor,
    watch: Watch | None = None,
    mounts_of: MountsOf | None = None,
    *,
    check: Callable[[], None] | None = None,
    expected: bool = True,
) -> str:
    """Make `target` have one blob; tells how: `present`, `mounted` or `copied`. `check` runs per chunk.

    A blob that is not `expected` to be there is mounted, or sent if it is small, without being asked for.
    """
    how = _place(source, target, blob, watch, mounts_of, check, expected)
    if watch is not None:
        watch(blob, blob.size, how)
    return how


def _place(
    source: Fetcher,
    target: Pusher,
    blob: Descriptor,
    watch: Watch | None,
    mounts_of: MountsOf | None,
    check: Callable[[], None] | None,
    expected: bool,
) -> str:
    siblings = list(mounts_of(blob)) if mounts_of is not None and isinstance(target, Mounter) else []
    # A blob that is there is "mounted" as well. A mount that is declined has begun an upload, which is then used.
    if (expected or (blob.size > _UNASKED and not siblings)) and target.has(blob):
        return PRESENT
    for repository in siblings:
        if cast(Mounter, target).mount_from(blob, repository):
            return MOUNTED
    report = None
    if watch is not None:
        watch(blob, 0, MOVING)
        report = _Report(watch, blob)
    if blob.data is not None and Digest.of(blob.data) == blob.digest:
        target.push(blob.bare(), io.BytesIO(blob.data), report=report)
    else:
        with source.open(blob) as stream:
            target.push(blob.bare(), stream if check is None else _Checked(stream, check), report=report)
    return COPIED


class _Checked:
    """A stream that asks before every read whether to go on."""

    def __init__(self, stream: Readable, check: Callable[[], None]) -> None:
        self._stream, self._check = stream, check

    def read(self, size: int = -1, /) -> bytes:
        self._check()
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # `seekable` and the like, if it has them


class _Report:
    def __init__(self, watch: Watch, blob: Descriptor) -> None:
        self._watch, self._blob = watch, blob

    def __call__(self, done: int) -> None:
        self._watch(self._blob, done, MOVING)


def each(act: Callable[[T], R], items: Sequence[T], *, scope: Scope, jobs: int) -> list[R]:
    """`act` on every item, `jobs` at a time; the results in the items' order. The first failure stops the rest.

    Never waits for a turn in `scope` itself, so it may be called from one of its threads.
    """
    scope.check()
    if len(items) <= 1:
        return [act(item) for item in items]
    inner = Scope()
    results: list[R | None] = [None] * len(items)
    todo = iter(range(len(items)))  # shared: taking the next number is one step of the interpreter

    def work() -> None:
        # As many threads as may run, and not one for each item: there may be thousands.
        for number in todo:
            inner.check()
            results[number] = act(items[number])

    with scope.on_cancel(inner.cancel):
        try:
            with inner:
                for _ in range(min(jobs, len(items))):
                    inner.start(work)
        except KeyboardInterrupt as error:
            # It came while we waited: the threads are still at work, and those in a socket listen to `scope`.
            scope.cancel()
            inner.__exit__(KeyboardInterrupt, error, None)
            raise
    return cast(list[R], results)


class Tally:
    """The report in the making; filled from several threads."""

    def __init__(self, watch: Watch | None) -> None:
        self.watch = watch
        self.moved: dict[str, list[Descriptor]] = {COPIED: [], PRESENT: [], MOUNTED: []}
        self.lock = threading.Lock()

    def add(self, descriptor: Descriptor, how: str) -> None:
        with self.lock:
            self.moved[how].append(descriptor)

    def finish(self, descriptor: Descriptor, how: str) -> None:
        self.add(descriptor, how)
        if self.watch is not None:
            self.watch(descriptor, descriptor.size, how)

    def report(self) -> CopyReport:
        return CopyReport(tuple(self.moved[COPIED]), tuple(self.moved[PRESENT]), tuple(self.moved[MOUNTED]))


@record
class _Document:
    descriptor: Descriptor
    raw: bytes
    needed: bool  # False: the target has it, and only its children were to be looked at


def _push_document(target: Pusher, document: _Document, tally: Tally) -> None:
    if not document.needed:
        tally.finish(document.descriptor, PRESENT)
        return
    target.push(document.descriptor.bare(), io.BytesIO(document.raw))
    tally.finish(document.descriptor, COPIED)


class _Plan:
    """What is below a root: documents by level, and blobs. Made by one thread; reads go through `each`."""

    def __init__(
        self, source: Fetcher, target: Place, scope: Scope, jobs: int, tally: Tally, sparse_target: bool
    ) -> None:
        self.source, self.target, self.scope, self.jobs = source, target, scope, jobs
        self.tally = tally
        self.sparse_target = sparse_target
        self.levels: list[list[_Document]] = []
        self.blobs: dict[Digest, Descriptor] = {}

    def explore(self, root: Descriptor, platforms: Sequence[Platform] | None) -> None:
        if not is_document(root.media_type):
            self.blobs[root.digest] = root
            return
        wave = {root.digest: root}
        while wave:
            if len(self.levels) == _MAX_DEPTH:
                raise ContentError(f"{root.digest}: indexes are nested more than {_MAX_DEPTH} deep")
            read = each(self._read, tuple(wave.values()), scope=self.scope, jobs=self.jobs)
            documents = [document for document in read if document is not None]
            self.levels.append(documents)
            wave = {}
            for document in documents:
                for child in self._children(document, platforms if document.descriptor is root else None):
                    (wave if is_document(child.media_type) else self.blobs).setdefault(child.digest, child)
        self._deepest_only()

    def _read(self, descriptor: Descriptor) -> _Document | None:
        there = self.target.has(descriptor)
        if there and not self.sparse_target:
            self.tally.finish(descriptor, PRESENT)
            return None
        place: Fetcher = self.target if there else self.source
        return _Document(descriptor, read_small(place, descriptor, limit=MAX_MANIFEST_BYTES), not there)

    def _children(self, document: _Document, platforms: Sequence[Platform] | None) -> tuple[Descriptor, ...]:
        decoded = decode(document.raw, document.descriptor.media_type)
        if isinstance(decoded, Index) and platforms is not None:
            return restrict(decoded, platforms)
        # Foreign layers live where their `urls` say; nobody has them, and registries do not want them.
        return tuple(child for child in decoded.successors if not (child.urls and _is_foreign(child)))

    def _deepest_only(self) -> None:
        # A document met on two levels must go out with the deeper one: before every parent.
        seen: set[Digest] = set()
        for level in reversed(self.levels):
            level[:] = [document for document in level if document.descriptor.digest not in seen]
            seen.update(document.descriptor.digest for document in level)


def _is_foreign(layer: Descriptor) -> bool:
    return "nondistributable" in layer.media_type or ".foreign." in layer.media_type
