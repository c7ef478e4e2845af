"""A ledger for snapshots that others count on: containerd's, which has them in its own books.

A build's snapshots can be made again, so `Ledger` does without fsync and forgets those of
dead processes. Here nothing goes by itself: what is active outlives its maker and
the boot (it is a stopped container's files), every row is on the disk before it is
answered, and labels are kept with it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping

from knarr.record import record
from knarr.snapshot.ledger import Entry, Ledger

_LABELS = """
CREATE TABLE IF NOT EXISTS label (
    snapshot INTEGER PRIMARY KEY REFERENCES snapshot(id) ON DELETE CASCADE,
    labels TEXT NOT NULL,
    updated_ns INTEGER NOT NULL
);
"""


@record
class Detail:
    """All that is known of a snapshot; `kind` is active, view or committed."""

    name: str
    parent: str
    kind: str
    created_ns: int
    updated_ns: int
    labels: Mapping[str, str]


class LastingLedger(Ledger):
    """The rows of one root, with labels; only their maker's word removes them."""

    synchronous = "FULL"
    replaceable = False
    schema = Ledger.schema + _LABELS

    def begin(self, name: str, parent: str | None, kind: str) -> Entry:
        entry = super().begin(name, parent, kind)
        with self._transaction() as database:
            database.execute("UPDATE snapshot SET owner = NULL WHERE id = ?", (entry.id,))
        return entry

    def _first_of_boot(self, database: sqlite3.Connection) -> None:
        """Rows are on the disk before they are answered: none is doubtful."""
        database.execute("DELETE FROM checked")
        database.execute("INSERT INTO checked VALUES (?)", (self._boot,))

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Let these be the labels of `name`.

        Raises:
            ContentError: there is no such snapshot.
        """
        id = self.need(name).id
        with self._transaction() as database:
            database.execute("REPLACE INTO label VALUES (?, ?, ?)", (id, json.dumps(dict(labels)), time.time_ns()))

    def details(self, name: str | None = None) -> tuple[Detail, ...]:
        """What is known of `name`, or of all."""
        sql = (
            "SELECT s.name, p.name, s.kind, s.created_ns, l.updated_ns, l.labels FROM snapshot s"
            " LEFT JOIN snapshot p ON p.id = s.parent LEFT JOIN label l ON l.snapshot = s.id"
            + (" WHERE s.name = ?" if name is not None else " ORDER BY s.id")
        )
        with self._lock:
            rows = self._database.execute(sql, () if name is None else (name,)).fetchall()
        return tuple(
            Detail(row[0], row[1] or "", row[2], row[3], row[4] or row[3], json.loads(row[5] or "{}")) for row in rows
        )
