"""The registry's tables: which repository has which blobs, manifests, tags, and what refers to what.

They stand in the database of the content store, so that what a repository has is
held against the store's garbage collection in the same transaction (one lease,
without end, on every digest). Whatever is removed is at first only marked, with
the time: `gone_ns`. It is invisible then, comes back when it is pushed again, and
is forgotten by the collector (`gc`).

All functions take an open connection and decide nothing about transactions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from knarr.record import field, record
from knarr.spec.digest import Digest

LEASE = "registry"
_FOREVER = 1 << 62
Connection = sqlite3.Connection

_SCHEMA = """
CREATE TABLE IF NOT EXISTS registry_blobs (
    repository TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, added_ns INTEGER NOT NULL,
    gone_ns INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registry_blobs_digest ON registry_blobs (digest);
CREATE TABLE IF NOT EXISTS registry_manifests (
    repository TEXT NOT NULL, digest TEXT NOT NULL, media_type TEXT NOT NULL, size INTEGER NOT NULL,
    subject TEXT NOT NULL, artifact_type TEXT NOT NULL, annotations TEXT NOT NULL, pushed_ns INTEGER NOT NULL,
    pulled_ns INTEGER NOT NULL DEFAULT 0, gone_ns INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (repository, digest)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registry_manifests_digest ON registry_manifests (digest);
CREATE INDEX IF NOT EXISTS registry_manifests_subject ON registry_manifests (repository, subject) WHERE subject != '';
CREATE TABLE IF NOT EXISTS registry_edges (
    repository TEXT NOT NULL, parent TEXT NOT NULL, child TEXT NOT NULL, PRIMARY KEY (repository, parent, child)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registry_edges_child ON registry_edges (repository, child);
CREATE TABLE IF NOT EXISTS registry_tags (
    repository TEXT NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, set_ns INTEGER NOT NULL,
    gone_ns INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (repository, tag)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS registry_tags_digest ON registry_tags (repository, digest);
"""


@record
class Entry:
    """A manifest as a repository has it."""

    digest: Digest
    media_type: str
    size: int  # bytes
    subject: str = ""
    artifact_type: str = ""  # by which the referrers listing filters: of the config, where the manifest names none
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


def create(db: sqlite3.Connection) -> None:
    """Make the tables, unless they are there."""
    for statement in _SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT OR IGNORE INTO leases VALUES (?, ?, ?)", (LEASE, LEASE, _FOREVER))


# Blobs


def blob_size(db: sqlite3.Connection, repository: str, digest: str) -> int | None:
    """The size of a blob of this repository; None: it has none of this digest."""
    row = db.execute(
        "SELECT size FROM registry_blobs WHERE repository = ? AND digest = ? AND gone_ns = 0", (repository, digest)
    ).fetchone()
    return row[0] if row else None


def add_blob(db: sqlite3.Connection, repository: str, digest: str, size: int, now_ns: int) -> None:
    """`repository` has the blob from now on."""
    _hold(db, digest)
    db.execute("REPLACE INTO registry_blobs VALUES (?, ?, ?, ?, 0)", (repository, digest, size, now_ns))


def mount_blob(db: sqlite3.Connection, repository: str, digest: str, sources: Iterable[str], now_ns: int) -> int | None:
    """`repository` has the blob, too, if one of `sources` has it; its size, or None."""
    for source in sources:
        size = blob_size(db, source, digest)
        if size is not None:
            add_blob(db, repository, digest, size, now_ns)
            return size
    return None


def remove_blob(db: sqlite3.Connection, repository: str, digest: str, now_ns: int) -> bool:
    """Mark it as gone; False: it was not there."""
    found = db.execute(
        "UPDATE registry_blobs SET gone_ns = ? WHERE repository = ? AND digest = ? AND gone_ns = 0",
        (now_ns, repository, digest),
    )
    return found.rowcount > 0


def blob_holders(db: sqlite3.Connection, digest: str) -> list[tuple[str, int]]:
    """Every repository that has the blob, and its size."""
    rows = db.execute(
        "SELECT repository, size FROM registry_blobs WHERE digest = ? AND gone_ns = 0 ORDER BY repository", (digest,)
    )
    return rows.fetchall()


def absent(db: sqlite3.Connection, repository: str, digests: Iterable[str], *, manifests: bool) -> list[str]:
    """Those of `digests` that the repository has not. What the collector has marked counts as there."""
    table = "registry_manifests" if manifests else "registry_blobs"
    query = f"SELECT 1 FROM {table} WHERE repository = ? AND digest = ?"
    return [digest for digest in digests if db.execute(query, (repository, digest)).fetchone() is None]


def all_content(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every repository with every digest that it has; nothing where no registry has worked yet."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'registry_blobs'").fetchone() is None:
        return []
    query = "SELECT repository, digest FROM {} WHERE gone_ns = 0"
    both = " UNION ".join(query.format(table) for table in ("registry_blobs", "registry_manifests"))
    return db.execute(both).fetchall()


# Manifests and tags


def manifest(db: sqlite3.Connection, repository: str, reference: str) -> Entry | None:
    """The manifest that a digest or a tag names."""
    if ":" in reference:
        query, words = "repository = ? AND digest = ? AND gone_ns = 0", (repository, reference)
    else:
        query = (
            "repository = ?1 AND gone_ns = 0 AND digest ="
            " (SELECT digest FROM registry_tags WHERE repository = ?1 AND tag = ?2 AND gone_ns = 0)"
        )
        words = (repository, reference)
    row = db.execute(f"SELECT {_ENTRY} FROM registry_manifests WHERE {query}", words).fetchone()
    return _entry(row) if row else None


def put_manifest(
    db: sqlite3.Connection,
    repository: str,
    entry: Entry,
    *,
    children: Sequence[str],
    tags: Iterable[str],
    now_ns: int,
) -> None:
    """The repository has the manifest, and `tags` lead to it. What it needs and was marked as gone comes back."""
    _hold(db, entry.digest)
    text = json.dumps(dict(entry.annotations)) if entry.annotations else ""
    db.execute(
        "INSERT INTO registry_manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0) ON CONFLICT (repository, digest)"
        " DO UPDATE SET media_type = excluded.media_type, pushed_ns = excluded.pushed_ns, gone_ns = 0",
        (
            *(repository, entry.digest, entry.media_type, entry.size),
            *(entry.subject, entry.artifact_type, text, now_ns),
        ),
    )
    db.executemany(
        "INSERT OR IGNORE INTO registry_edges VALUES (?, ?, ?)",
        [(repository, entry.digest, child) for child in children],
    )
    revive(db, repository, [entry.digest])
    for tag in tags:
        db.execute("REPLACE INTO registry_tags VALUES (?, ?, ?, ?, 0)", (repository, tag, entry.digest, now_ns))


def revive(db: sqlite3.Connection, repository: str, roots: Sequence[str]) -> None:
    """Take back the marks on all that `roots` need, so that nothing visible lacks a part of it."""
    seen: set[str] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest in seen:
            continue
        seen.add(digest)
        for table in ("registry_blobs", "registry_manifests"):
            db.execute(
                f"UPDATE {table} SET gone_ns = 0 WHERE repository = ? AND digest = ? AND gone_ns != 0",
                (repository, digest),
            )
        todo += children(db, repository, digest)


def children(db: sqlite3.Connection, repository: str, parent: str) -> list[str]:
    """What a manifest names: its config, layers or manifests, here or not."""
    rows = db.execute("SELECT child FROM registry_edges WHERE repository = ? AND parent = ?", (repository, parent))
    return [row[0] for row in rows]


def note_pulls(db: sqlite3.Connection, seen: Mapping[tuple[str, str], int]) -> None:
    """When manifests were pulled last, by repository and digest."""
    db.executemany(
        "UPDATE registry_manifests SET pulled_ns = ? WHERE repository = ? AND digest = ?",
        [(when, repository, digest) for (repository, digest), when in seen.items()],
    )


def remove_manifest(db: sqlite3.Connection, repository: str, digest: str, now_ns: int) -> bool:
    """Mark it and the tags that lead to it as gone; False: it was not there."""
    found = db.execute(
        "UPDATE registry_manifests SET gone_ns = ? WHERE repository = ? AND digest = ? AND gone_ns = 0",
        (now_ns, repository, digest),
    )
    if found.rowcount:
        db.execute(
            "UPDATE registry_tags SET gone_ns = ? WHERE repository = ? AND digest = ? AND gone_ns = 0",
            (now_ns, repository, digest),
        )
    return found.rowcount > 0


def remove_tag(db: sqlite3.Connection, repository: str, tag: str, now_ns: int) -> bool:
    """Mark it as gone; False: it was not there."""
    found = db.execute(
        "UPDATE registry_tags SET gone_ns = ? WHERE repository = ? AND tag = ? AND gone_ns = 0",
        (now_ns, repository, tag),
    )
    return found.rowcount > 0


def referrers(db: sqlite3.Connection, repository: str, subject: str, after: str = "") -> Iterable[Entry]:
    """The manifests whose subject is `subject`, by digest, behind the digest `after`."""
    rows = db.execute(
        f"SELECT {_ENTRY} FROM registry_manifests WHERE repository = ? AND subject = ? AND digest > ? AND gone_ns = 0"
        " ORDER BY digest",
        (repository, subject, after),
    )
    return map(_entry, rows)


def tags(db: sqlite3.Connection, repository: str, after: str, limit: int) -> list[str]:
    """At most `limit` tags behind `after`, sorted as bytes are."""
    rows = db.execute(
        "SELECT tag FROM registry_tags WHERE repository = ? AND tag > ? AND gone_ns = 0 ORDER BY tag LIMIT ?",
        (repository, after, limit),
    )
    return [row[0] for row in rows]


def is_known(db: sqlite3.Connection, repository: str) -> bool:
    """Whether anything was pushed into the repository and is still there."""
    query = "SELECT 1 FROM {} WHERE repository = ? AND gone_ns = 0 LIMIT 1"
    found = (
        db.execute(query.format(table), (repository,)).fetchone() for table in ("registry_manifests", "registry_blobs")
    )
    return any(row is not None for row in found)


def repositories(db: sqlite3.Connection, after: str = "") -> Iterable[str]:
    """Every repository with a manifest, behind `after`, sorted; one seek in the index for each."""
    query = "SELECT repository FROM registry_manifests WHERE repository > ? AND gone_ns = 0 ORDER BY repository LIMIT 1"
    while (row := db.execute(query, (after,)).fetchone()) is not None:
        after = row[0]
        yield after


_ENTRY = "digest, media_type, size, subject, artifact_type, annotations"


def _entry(row: tuple[Any, ...]) -> Entry:
    digest, media_type, size, subject, artifact_type, text = row
    return Entry(Digest(digest), media_type, size, subject, artifact_type, json.loads(text) if text else {})


def _hold(db: sqlite3.Connection, digest: str) -> None:
    db.execute("INSERT OR IGNORE INTO lease_items VALUES (?, ?)", (LEASE, digest))


def totals(db: sqlite3.Connection) -> tuple[int, int, int, int]:
    """How many repositories, manifests and tags there are, and the bytes of all blobs, each counted once."""
    manifests = db.execute(
        "SELECT count(DISTINCT repository), count(*) FROM registry_manifests WHERE gone_ns = 0"
    ).fetchone()
    tagged = db.execute("SELECT count(*) FROM registry_tags WHERE gone_ns = 0").fetchone()
    stored = db.execute(
        "SELECT coalesce(sum(size), 0) FROM (SELECT DISTINCT digest, size FROM registry_blobs WHERE gone_ns = 0)"
    ).fetchone()
    return manifests[0], manifests[1], tagged[0], stored[0]
