"""Garbage collection: what nobody names, leases or holds in a cache record goes.

Mark: image names, leases and the caller's roots, and through every manifest
among them its successors. Sweep: the other blobs, once they have not been used
for a while. The verdict on each blob is made again at the moment of deletion,
under the database's write lock: nobody can name or lease it in between. Under the
lock only what was named or leased since the last look is walked, so that nobody
waits while the manifests of the whole store are read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from itertools import islice

from knarr.content.store import Store
from knarr.errors import ContentError
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

GRACE_S = 3600.0  # longer than a build pauses between making a blob and naming it
# Blobs deleted under one hold of the write lock: some 20 ms, and 80 where leases hold 100,000 blobs.
_BATCH = 256
_PAUSE_S = 0.01  # between two holds: SQLite has no queue, and who waits for the lock looks again in such steps
_MAX_MANIFEST_BYTES = 4 << 20  # what is larger cannot be a manifest


@record
class Freed:
    """What a collection removed, or would remove."""

    blobs: tuple[Digest, ...]
    size_bytes: int  # of the blobs
    ingest_bytes: int = 0  # of half-written blobs whose writer is dead
    leases: int = 0


def collect(
    store: Store,
    *,
    roots: Callable[[], Iterable[Digest]] = tuple,
    grace_s: float = GRACE_S,
    dry_run: bool = False,
    check: Callable[[], None] | None = None,
    among: Collection[Digest] | None = None,
) -> Freed:
    """Remove every blob, or every one `among` some, that nothing holds and nobody used for `grace_s` seconds.

    `roots` gives the digests that others hold (cache records). `check` runs per
    blob (cancellation); what was removed until then stays removed.
    """
    leases = ingest = 0
    if among is not None and not among:
        return Freed((), 0)
    if not dry_run:
        leases = store.leases.sweep()
        ingest = store.sweep_ingest()
    marks = _Marks(store)
    marks.add(roots())
    marks.add_held()
    before = time.time() - grace_s
    candidates = [
        (digest, known.st_size)
        for digest, known in store.walk()
        if digest not in marks.kept and known.st_mtime <= before and (among is None or digest in among)
    ]
    gone = candidates if dry_run else _sweep(store, marks, candidates, before, check)
    return Freed(tuple(digest for digest, _ in gone), sum(size for _, size in gone), ingest, leases)


def marked(store: Store, roots: Iterable[Digest]) -> set[Digest]:
    """`roots` and all that can be reached from those of them that are manifests here."""
    marks = _Marks(store)
    marks.add(roots)
    return marks.kept


class _Marks:
    """What is held, and all that can be reached from it. It only grows: what is let go meanwhile waits for the next."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.kept: set[Digest] = set()
        self._absent: set[Digest] = set()  # held and not here: what it leads to shows when it comes

    def add(self, roots: Iterable[Digest]) -> None:
        """Keep `roots` and all that can be reached from those of them that are manifests here."""
        todo = list(roots)
        while todo:
            digest = todo.pop()
            if digest not in self.kept:
                self.kept.add(digest)
                found = _successors(self._store, digest)
                if found is None:
                    self._absent.add(digest)
                else:
                    todo.extend(item.digest for item in found)

    def add_held(self) -> None:
        """Keep what has a name or a lease now."""
        came = {digest for digest in self._absent if os.path.exists(self._store.path(digest))}
        self._absent -= came
        self.kept -= came
        self.add(came)
        self.add(_named(self._store))
        self.add(self._store.leases.held(besides=self.kept))


def _named(store: Store) -> list[Digest]:
    return [name.descriptor.digest for name in store.names.list()]


def _successors(store: Store, digest: Digest) -> tuple[Descriptor, ...] | None:
    """What a manifest needs; nothing for a blob that is none, None for one that is not here."""
    from knarr.spec.manifest import decode

    try:
        with open(store.path(digest), "rb") as file:
            if file.read(1) != b"{" or os.fstat(file.fileno()).st_size > _MAX_MANIFEST_BYTES:
                return ()  # layers, by far the most blobs, end here
            raw = b"{" + file.read()
    except FileNotFoundError:
        return None
    except OSError:
        return ()
    if b'"schemaVersion"' not in raw:
        return ()
    try:
        return decode(raw).successors
    except ContentError:
        return ()


def _sweep(
    store: Store,
    marks: _Marks,
    candidates: list[tuple[Digest, int]],
    before: float,
    check: Callable[[], None] | None,
) -> list[tuple[Digest, int]]:
    gone: list[tuple[Digest, int]] = []
    todo = iter(candidates)
    while batch := list(islice(todo, _BATCH)):
        with store.database.write():
            marks.add_held()
            for digest, size in batch:
                if check is not None:
                    check()
                if digest not in marks.kept and _unused(store, digest, before) and store.delete(digest):
                    gone.append((digest, size))
        time.sleep(_PAUSE_S)
    return gone


def _unused(store: Store, digest: Digest, before: float) -> bool:
    try:
        return os.stat(store.path(digest)).st_mtime <= before
    except FileNotFoundError:
        return False
