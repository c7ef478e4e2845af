"""Image names: which text names which manifest, and which one it named before.

A name may lead to a manifest whose layers are not here (a base image that was
only needed by its descriptors).
"""

from __future__ import annotations

import json
import time

from knarr.content.database import Database
from knarr.record import record
from knarr.spec.descriptor import Descriptor

_KEPT = 10  # past targets remembered for each name


@record
class Name:
    """One name and what it leads to."""

    name: str
    descriptor: Descriptor
    updated_ns: int  # time.time_ns() when it was last set


class Names:
    """The table of image names. Safe from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, name: str) -> Name | None:
        """What `name` leads to, or None."""
        with self._database.read() as db:
            row = db.execute("SELECT name, descriptor, updated_ns FROM names WHERE name = ?", (name,)).fetchone()
        return _name(row) if row else None

    def set(self, name: str, descriptor: Descriptor) -> None:
        """Let `name` lead to `descriptor`. What it led to before goes to its history."""
        text, now = json.dumps(descriptor.to_json()), time.time_ns()
        with self._database.write() as db:
            old = db.execute("SELECT descriptor FROM names WHERE name = ?", (name,)).fetchone()
            db.execute("REPLACE INTO names VALUES (?, ?, ?, ?)", (name, str(descriptor.digest), text, now))
            if old is not None and old[0] == text:
                return
            db.execute("INSERT INTO name_history VALUES (?, ?, ?)", (name, text, now))
            db.execute(
                "DELETE FROM name_history WHERE name = ? AND rowid NOT IN"
                " (SELECT rowid FROM name_history WHERE name = ? ORDER BY rowid DESC LIMIT ?)",
                (name, name, _KEPT),
            )

    def delete(self, name: str) -> bool:
        """Forget `name`; its content goes with the next collection. False: there was no such name."""
        with self._database.write() as db:
            return db.execute("DELETE FROM names WHERE name = ?", (name,)).rowcount > 0

    def list(self, prefix: str = "") -> tuple[Name, ...]:
        """All names that begin with `prefix`, sorted."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT name, descriptor, updated_ns FROM names WHERE substr(name, 1, ?) = ? ORDER BY name",
                (len(prefix), prefix),
            ).fetchall()
        return tuple(_name(row) for row in rows)

    def history(self, name: str) -> tuple[Name, ...]:
        """What `name` has led to, newest first, the present target included; survives `delete`."""
        with self._database.read() as db:
            rows = db.execute(
                "SELECT name, descriptor, set_ns FROM name_history WHERE name = ? ORDER BY rowid DESC", (name,)
            ).fetchall()
        return tuple(_name(row) for row in rows)


def _name(row: tuple[str, str, int]) -> Name:
    return Name(row[0], Descriptor.from_json(json.loads(row[1])), row[2])
