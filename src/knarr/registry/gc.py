"""The collector: marks what nothing needs, forgets what was marked long enough ago, and frees its bytes.

It may run at any time, in the server or beside it, while others push and pull.
Each repository is judged (`graph`) inside the write transaction in which the
verdict is carried out, so nobody can tag or push in between. What goes is at
first only marked: it is not visible any more, but comes back by `restore`, and by
itself when a manifest is pushed that needs it. After the undo window the rows go,
and then the blobs that no repository, image name, lease or cache record holds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from knarr.content import gc as content_gc
from knarr.content.store import Store
from knarr.record import record
from knarr.registry import marks, tables
from knarr.registry.graph import ManifestItem, Picture, Verdict, judge
from knarr.registry.ledger import Ledger
from knarr.registry.settings import Retention
from knarr.spec.digest import Digest

# Between a blob's arrival in the store and its row there is one wait for the disk; nothing younger is ever freed.
_SETTLE_S = 60.0


@record
class Collected:
    """What a collection did, or would do."""

    tags: tuple[str, ...] = ()  # "repository:tag", marked as gone
    manifests: tuple[str, ...] = ()  # "repository@digest"
    blobs: tuple[str, ...] = ()
    marked_bytes: int = 0  # of manifests and blobs marked; shared ones count once
    freed: tuple[Digest, ...] = ()
    freed_bytes: int = 0


def collect(
    store: Store,
    ledger: Ledger,
    retention: Retention,
    *,
    roots: Callable[[], Iterable[Digest]] = tuple,
    dry_run: bool = False,
    settle_s: float = _SETTLE_S,
) -> Collected:
    """Collect once. `roots` gives what others than the registry hold: cache records."""
    names = ledger.read(lambda db: marks.all_repositories(db))
    tags: list[str] = []
    manifests: list[str] = []
    blobs: list[str] = []
    sizes: dict[str, int] = {}
    for name in names:
        picture, verdict = _judge_one(store, ledger, name, retention, dry_run=dry_run)
        tags += [f"{name}:{tag}" for tag in verdict.tags]
        manifests += [f"{name}@{digest}" for digest in verdict.manifests]
        blobs += [f"{name}@{digest}" for digest in verdict.blobs]
        sizes.update({digest: picture.manifests[digest].size for digest in verdict.manifests})
        sizes.update({digest: picture.blobs[digest] for digest in verdict.blobs})
    before_ns = time.time_ns() - int(retention.undo_s * 1e9)
    if dry_run:
        forgotten = ledger.read(lambda db: marks.forgettable(db, before_ns))
    else:
        forgotten = ledger.write(lambda db: marks.forget(db, before_ns))
    freed = content_gc.collect(
        store, roots=roots, grace_s=settle_s, dry_run=dry_run, among={Digest(digest) for digest in forgotten}
    )
    return Collected(tuple(tags), tuple(manifests), tuple(blobs), sum(sizes.values()), freed.blobs, freed.size_bytes)


def summary(done: Collected, *, dry_run: bool = False) -> str:
    """One line about a collection."""
    removed = f"{len(done.tags)} tags, {len(done.manifests)} manifests and {len(done.blobs)} blobs"
    if dry_run:
        return f"would remove {removed} ({done.marked_bytes} bytes), and free {done.freed_bytes} bytes removed before"
    return f"removed {removed} ({done.marked_bytes} bytes), and freed {done.freed_bytes} bytes removed before"


def _judge_one(
    store: Store, ledger: Ledger, repository: str, retention: Retention, *, dry_run: bool
) -> tuple[Picture, Verdict]:
    def carry_out(db: tables.Connection) -> tuple[Picture, Verdict]:
        picture = picture_of(db, repository)
        now = time.time_ns()
        verdict = judge(picture, retention, now, lambda digest: _last_used_ns(store, digest))
        if not dry_run:
            marks.mark(db, repository, verdict.tags, verdict.manifests, verdict.blobs, now)
        return picture, verdict

    return ledger.read(carry_out) if dry_run else ledger.write(carry_out)


def picture_of(db: tables.Connection, repository: str) -> Picture:
    """What the repository shows."""
    children: dict[str, list[str]] = {}
    for parent, child in marks.all_edges(db, repository):
        children.setdefault(parent, []).append(child)
    manifests = {
        digest: ManifestItem(size, subject, pushed, pulled, tuple(children.get(digest, ())))
        for digest, size, subject, pushed, pulled in marks.all_manifests(db, repository)
    }
    return Picture(repository, manifests, dict(marks.all_blobs(db, repository)), marks.all_tags(db, repository))


def explain(
    store: Store, ledger: Ledger, retention: Retention, digest: Digest, *, roots: Callable[[], Iterable[Digest]] = tuple
) -> list[str]:
    """Why `digest` is kept, or since when it is not, as lines; [] when nothing here knows it."""
    lines: list[str] = []
    for repository in ledger.read(lambda db: marks.repositories_with(db, digest)):
        picture, verdict = _judge_one(store, ledger, repository, retention, dry_run=True)
        chain = verdict.why(digest)
        if chain:
            lines += [f"{repository}: kept", *(f"  {line}" for line in chain)]
        elif digest in picture.manifests or digest in picture.blobs:
            lines.append(f"{repository}: nothing needs it; the next collection takes it")
        else:
            gone = ledger.read(_since(repository, digest))
            until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(gone / 1e9 + retention.undo_s))
            lines.append(f"{repository}: removed; can be restored until {until}")
    others = [name.name for name in store.names.list() if digest in content_gc.marked(store, [name.descriptor.digest])]
    lines += [f"the image {name} of this machine needs it" for name in others]
    if digest in content_gc.marked(store, roots()):
        lines.append("the build cache needs it")
    return lines


def _since(repository: str, digest: str) -> Callable[[tables.Connection], int]:
    return lambda db: marks.gone_since(db, repository, digest)


def _last_used_ns(store: Store, digest: str) -> int:
    try:
        return os.stat(store.path(Digest(digest))).st_mtime_ns
    except FileNotFoundError:
        return 0
