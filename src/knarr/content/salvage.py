"""A damaged database is made anew from what can still be read of it, and from the last copy where it cannot.

The build cache can be made again, and which repository has what cannot. So the
registry server leaves a copy of the store's database beside it (`keep_copy`), and
`salvage` reads a damaged one table by table, from the front and from the back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.content.database import Database
from knarr.errors import ContentError
from knarr.record import record
from knarr.wal import is_damaged

if TYPE_CHECKING:
    import sqlite3

COPY = "meta.db.copy"
_SUFFIXES = ("", "-wal", "-shm")


@record
class Salvaged:
    """What came of it. `copied_from`: when the copy was made that was needed, in seconds since 1970; 0: it was not."""

    aside: Path  # where the damaged file is now
    rows: int
    copied_from: float = 0.0


def keep_copy(database: Path) -> None:
    """Leave a copy of `database` beside it, unless there is one since the last change.

    It replaces the one before when it is complete and sound.

    Raises:
        ContentError: the database is damaged, or the disk full; the copy before stays.
    """
    import sqlite3

    copy = database.with_name(COPY)
    if _changed(database) <= _changed(copy):
        return
    fresh = copy.with_name(f"{COPY}.{os.getpid()}")
    source = Database(database)
    try:
        with source.read() as db:
            target = sqlite3.connect(fresh)
            try:
                db.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")
            finally:
                target.close()
        if is_damaged(fresh):
            raise ContentError(f"{database}: damaged", hint="knarr doctor --store --repair")
        os.replace(fresh, copy)
    finally:
        source.close()
        with suppress(FileNotFoundError):
            os.unlink(fresh)


def salvage(database: Path, prepare: Callable[[sqlite3.Connection], object]) -> Salvaged:
    """Move the damaged `database` aside, with its log, and make one of what can be saved.

    `prepare` makes the tables that are not the store's own.
    """
    aside = database.with_name(f"{database.name}.damaged")
    for suffix in _SUFFIXES:
        Path(f"{aside}{suffix}").unlink(missing_ok=True)
        if os.path.exists(f"{database}{suffix}"):
            os.replace(f"{database}{suffix}", f"{aside}{suffix}")
    copy = database.with_name(COPY)
    made = Database(database, durable=True)
    rows, copied_from = 0, 0.0
    try:
        with made.write() as db:
            prepare(db)
            db.execute("PRAGMA defer_foreign_keys = ON")
            for table in _tables(db):
                found, whole = _rows_of(aside, table, db)
                if not whole and copy.exists():
                    found |= _rows_of(copy, table, db)[0]
                    copied_from = copy.stat().st_mtime
                rows += _insert(db, table, found)
            db.execute("DELETE FROM lease_items WHERE lease NOT IN (SELECT id FROM leases)")
    finally:
        made.close()
    return Salvaged(aside, rows, copied_from)


def _changed(database: Path) -> float:
    """When a database was last written, in seconds since 1970; 0: there is none."""
    files = [Path(f"{database}{suffix}") for suffix in ("", "-wal")]
    return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)


def _tables(db: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    return [row[0] for row in db.execute(query)]


def _columns(db: sqlite3.Connection, table: str) -> list[tuple[str, int]]:
    """Name, and place in the primary key (0: none)."""
    return [(row[1], row[5]) for row in db.execute(f"PRAGMA table_info({table})")]


def _rows_of(file: Path, table: str, like: sqlite3.Connection) -> tuple[set[tuple[Any, ...]], bool]:
    """The rows of a table that can be read, in the columns of `like`, and whether that is all of them."""
    import sqlite3

    columns = _columns(like, table)
    key = [name for name, place in sorted(columns, key=lambda column: column[1]) if place] or ["rowid"]
    query = f"SELECT {', '.join(name for name, _ in columns)} FROM {table} ORDER BY "
    found: set[tuple[Any, ...]] = set()
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
    try:
        for order in ("ASC", "DESC"):
            try:
                for row in connection.execute(query + ", ".join(f"{name} {order}" for name in key)):
                    found.add(row)
                return found, True
            except sqlite3.DatabaseError as error:
                if "no such table" in str(error):
                    return found, True
    finally:
        connection.close()
    return found, False


def _insert(db: sqlite3.Connection, table: str, rows: set[tuple[Any, ...]]) -> int:
    """Put in what is possible: a row that was read wrong may break a rule."""
    import sqlite3

    count = 0
    for row in rows:
        with suppress(sqlite3.Error):
            db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            count += 1
    return count
