"""Where a blob is known to be: the repositories that have it.

A push to one of them need not send the blob, a push to a sibling repository can
mount it, and a blob that is not here can be fetched from there. It is what was
true when it was last seen: a registry may have forgotten since.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from knarr.content.database import Database
from knarr.spec.digest import Digest


class Sources:
    """Digest → `host/repository`. Safe from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, repository: str, digests: Iterable[Digest]) -> None:
        """`repository` ("host/repo") has all of these now."""
        now = time.time_ns()
        rows = [(str(digest), repository, now) for digest in digests]
        with self._database.write() as db:
            db.executemany("REPLACE INTO sources VALUES (?, ?, ?)", rows)

    def of(self, digest: Digest) -> tuple[str, ...]:
        """The repositories that had the blob, most recently seen first."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT repository FROM sources WHERE digest = ? ORDER BY seen_ns DESC, repository", (str(digest),)
            ).fetchall()
        return tuple(row[0] for row in rows)

    def remove(self, repository: str, digest: Digest) -> None:
        """`repository` turned out not to have it."""
        with self._database.write() as db:
            db.execute("DELETE FROM sources WHERE digest = ? AND repository = ?", (str(digest), repository))
