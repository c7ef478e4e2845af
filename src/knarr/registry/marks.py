"""The tables as the collector uses them: pictures of repositories, marks, and forgetting what was marked."""

from __future__ import annotations

from collections.abc import Iterable

from knarr.registry.tables import LEASE, Connection, remove_blob, remove_manifest, remove_tag, revive


def all_repositories(db: Connection) -> list[str]:
    """Every repository with anything in it, marked as gone or not."""
    rows = db.execute(
        "SELECT DISTINCT repository FROM registry_blobs UNION SELECT DISTINCT repository FROM registry_manifests"
        " UNION SELECT DISTINCT repository FROM registry_tags ORDER BY repository"
    )
    return [row[0] for row in rows]


def all_edges(db: Connection, repository: str) -> Iterable[tuple[str, str]]:
    """(parent, child) of every manifest."""
    return db.execute("SELECT parent, child FROM registry_edges WHERE repository = ?", (repository,))


def parents(db: Connection, repository: str, child: str) -> list[str]:
    """The manifests that name `child`."""
    rows = db.execute("SELECT parent FROM registry_edges WHERE repository = ? AND child = ?", (repository, child))
    return [row[0] for row in rows]


def all_manifests(db: Connection, repository: str) -> Iterable[tuple[str, int, str, int, int]]:
    """(digest, size, subject, pushed, pulled) of what is visible."""
    return db.execute(
        "SELECT digest, size, subject, pushed_ns, pulled_ns FROM registry_manifests"
        " WHERE repository = ? AND gone_ns = 0",
        (repository,),
    )


def all_blobs(db: Connection, repository: str) -> Iterable[tuple[str, int]]:
    """(digest, size) of what is visible."""
    return db.execute("SELECT digest, size FROM registry_blobs WHERE repository = ? AND gone_ns = 0", (repository,))


def all_tags(db: Connection, repository: str) -> dict[str, tuple[str, int]]:
    """Tag → digest, and when it was set."""
    rows = db.execute(
        "SELECT tag, digest, set_ns FROM registry_tags WHERE repository = ? AND gone_ns = 0", (repository,)
    )
    return {tag: (digest, set_ns) for tag, digest, set_ns in rows}


def mark(
    db: Connection,
    repository: str,
    tags: Iterable[str],
    manifests: Iterable[str],
    blobs: Iterable[str],
    now_ns: int,
) -> None:
    """Mark these as gone."""
    for tag in tags:
        remove_tag(db, repository, tag, now_ns)
    for digest in manifests:
        remove_manifest(db, repository, digest, now_ns)
    for digest in blobs:
        remove_blob(db, repository, digest, now_ns)


_GONE = "gone_ns != 0 AND gone_ns <= ?"


def forgettable(db: Connection, before_ns: int) -> list[str]:
    """The digests that no repository would have any more after `forget`."""
    rows = db.execute(
        f"SELECT digest FROM registry_blobs WHERE {_GONE} UNION SELECT digest FROM registry_manifests WHERE {_GONE}",
        (before_ns, before_ns),
    ).fetchall()
    held = (
        f"SELECT 1 FROM registry_blobs WHERE digest = ?1 AND NOT ({_GONE.replace('?', '?2')})"
        f" UNION ALL SELECT 1 FROM registry_manifests WHERE digest = ?1 AND NOT ({_GONE.replace('?', '?2')}) LIMIT 1"
    )
    return [digest for (digest,) in rows if db.execute(held, (digest, before_ns)).fetchone() is None]


def forget(db: Connection, before_ns: int) -> list[str]:
    """Delete the rows that were marked before then; returns the digests that no repository has any more."""
    orphans = forgettable(db, before_ns)
    db.execute(f"DELETE FROM registry_tags WHERE {_GONE}", (before_ns,))
    db.execute(
        "DELETE FROM registry_edges WHERE (repository, parent) IN"
        f" (SELECT repository, digest FROM registry_manifests WHERE {_GONE})",
        (before_ns,),
    )
    db.execute(f"DELETE FROM registry_manifests WHERE {_GONE}", (before_ns,))
    db.execute(f"DELETE FROM registry_blobs WHERE {_GONE}", (before_ns,))
    db.executemany("DELETE FROM lease_items WHERE lease = ? AND digest = ?", [(LEASE, digest) for digest in orphans])
    return orphans


def repositories_with(db: Connection, digest: str) -> list[str]:
    """Every repository that has the digest, marked as gone or not."""
    rows = db.execute(
        "SELECT repository FROM registry_blobs WHERE digest = ?1 UNION"
        " SELECT repository FROM registry_manifests WHERE digest = ?1 ORDER BY repository",
        (digest,),
    )
    return [row[0] for row in rows]


def gone_since(db: Connection, repository: str, digest: str) -> int:
    """When it was marked (ns)."""
    row = db.execute(
        "SELECT max(gone_ns) FROM (SELECT gone_ns FROM registry_blobs WHERE repository = ?1 AND digest = ?2"
        " UNION ALL SELECT gone_ns FROM registry_manifests WHERE repository = ?1 AND digest = ?2)",
        (repository, digest),
    ).fetchone()
    return int(row[0] or 0)


def gone(db: Connection, repository: str = "") -> list[tuple[str, str, str, int]]:
    """(repository, tag or "", digest, since) of every tag and manifest that is marked, newest first."""
    where = "WHERE gone_ns != 0" + (" AND repository = ?1" if repository else "")
    query = (
        f"SELECT repository, tag, digest, gone_ns FROM registry_tags {where} UNION ALL"
        f" SELECT repository, '', digest, gone_ns FROM registry_manifests {where} ORDER BY 4 DESC, 1, 2"
    )
    return db.execute(query, (repository,) if repository else ()).fetchall()


def restore(db: Connection, repository: str, reference: str) -> bool:
    """Take back the marks on a tag or a manifest, and on all it needs; False: there is nothing of that name."""
    digest = reference
    if ":" not in reference:
        row = db.execute(
            "SELECT digest FROM registry_tags WHERE repository = ? AND tag = ? AND gone_ns != 0",
            (repository, reference),
        ).fetchone()
        if row is None:
            return False
        digest = row[0]
    query = "SELECT 1 FROM registry_manifests WHERE repository = ? AND digest = ?"
    if db.execute(query, (repository, digest)).fetchone() is None:
        return False
    revive(db, repository, [digest])
    if ":" not in reference:
        query = "UPDATE registry_tags SET gone_ns = 0 WHERE repository = ? AND tag = ?"
        db.execute(query, (repository, reference))
    return True
