"""The ledger of a snapshot root: names, parents and owners, in SQLite.

Shared by the drivers, which differ only in how they lay a snapshot out below
`root/<id>`. Ids count up and are never used again, so what is known of a
committed id stays true. Order makes a kill harmless: a row is written before
its directory is made and deleted before its directory is removed, hence a
directory without a row is rubbish, and a row of a dead owner is, too.

The ledger does without fsync, as snapshots do: after a power cut both may have
lost what was last written. Therefore a row remembers the boot it was committed
in and whether the disk has been synced since; in a later boot, rows that never
saw a sync are dropped with all that stands on them.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from knarr import disk
from knarr.errors import Bug, ContentError, KnarrError
from knarr.owner import Owner
from knarr.record import record
from knarr.snapshot.snapshotter import Info

_SCHEMA = """
CREATE TABLE IF NOT EXISTS snapshot (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshot(id),
    kind TEXT NOT NULL,              -- active, view, committed
    owner TEXT,                      -- token of the process that has it active
    created_ns INTEGER NOT NULL,
    boot TEXT NOT NULL,
    synced INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER,              -- of a committed one, once it was asked for
    inodes INTEGER
);
CREATE INDEX IF NOT EXISTS child ON snapshot(parent);
CREATE TABLE IF NOT EXISTS checked (boot TEXT PRIMARY KEY);
"""
_SETTLED_NS = 60 * 10**9  # the kernel writes dirty pages after 30 s and ext4 its journal 5 s later


@record
class Entry:
    """One row: a snapshot and the ids it stands on."""

    id: int
    name: str
    parent: int | None
    kind: str


class Ledger:
    """The rows of one root. Safe across threads and processes; every method is one transaction."""

    synchronous = "OFF"
    replaceable = True  # what it tells of can be made again
    schema = _SCHEMA

    def __init__(self, root: Path) -> None:
        """Opens `root/snapshots.db` with the first call, made if missing."""
        self._root = root
        self._owners = root / "owners"
        self._owner: Owner | None = None
        self._lock = threading.Lock()
        self._chains: dict[int, tuple[int, ...]] = {}
        self._boot = _boot_id()
        self._path = root / "snapshots.db"
        self._connection: sqlite3.Connection | None = None

    @property
    def _database(self) -> sqlite3.Connection:
        """The open database; the lock is held."""
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        """Open, make or check the database, one process at a time."""
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        lock = os.open(self._root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._checked()
        except sqlite3.OperationalError as error:
            raise self._told(error) from error
        except sqlite3.DatabaseError as error:
            if not self.replaceable:
                raise KnarrError(f"{self._path} is damaged: {error}", hint="what it told of is lost") from error
            # Torn by a power cut. Snapshots can all be made again; doubtful ones must not be used.
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return self._checked()
        finally:
            os.close(lock)

    def _checked(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        database.executescript(
            f"PRAGMA journal_mode=WAL; PRAGMA synchronous={self.synchronous}; PRAGMA foreign_keys=ON;"
        )
        if not database.execute("SELECT count(*) FROM sqlite_master WHERE name = 'checked'").fetchone()[0]:
            database.executescript(self.schema)
            # Directories of a database that was lost must not be met again.
            top = max((int(name) for name in os.listdir(self._root) if name.isdigit()), default=0)
            database.execute("INSERT INTO sqlite_sequence VALUES ('snapshot', ?)", (top,))
        if database.execute("SELECT 1 FROM checked WHERE boot = ?", (self._boot,)).fetchone() is None:
            if database.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check failed")
            self._first_of_boot(database)
        return database

    def _first_of_boot(self, database: sqlite3.Connection) -> None:
        """Drop what a power cut may have torn: rows of earlier boots that no sync followed, and their children."""
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "WITH RECURSIVE doubtful(id) AS ("
            " SELECT id FROM snapshot WHERE boot <> ? AND (synced = 0 OR kind <> 'committed')"
            " UNION SELECT snapshot.id FROM snapshot JOIN doubtful ON snapshot.parent = doubtful.id)"
            " DELETE FROM snapshot WHERE id IN doubtful",
            (self._boot,),
        )
        database.execute("DELETE FROM checked")
        database.execute("INSERT INTO checked VALUES (?)", (self._boot,))
        database.execute("COMMIT")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            database = self._database
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            except sqlite3.OperationalError as error:  # the disk is full, another process holds it for a minute
                raise self._told(error) from error
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")

    def _told(self, error: sqlite3.Error) -> KnarrError:
        if disk.database_lacks_room(error, self._path):
            return disk.no_room(self._root)
        return KnarrError(f"{self._path}: {error}")

    def begin(self, name: str, parent: str | None, kind: str) -> Entry:
        """A new row of `kind` active or view.

        Raises:
            ContentError: the name exists, or the parent is not committed.
        """
        token = self._token()
        with self._transaction() as database:
            above = None if parent is None else self._committed(database, parent)
            try:
                row = database.execute(
                    "INSERT INTO snapshot (name, parent, kind, owner, created_ns, boot) VALUES (?, ?, ?, ?, ?, ?)",
                    (name, above, kind, token, time.time_ns(), self._boot),
                )
            except sqlite3.IntegrityError as error:
                raise ContentError(f"snapshot {name} exists already") from error
            if row.lastrowid is None:
                raise Bug("sqlite gave no row id")
            return Entry(row.lastrowid, name, above, kind)

    def _token(self) -> str:
        with self._lock:
            if self._owner is None or not self._owner.is_ours:
                self._owner = Owner.claim(self._owners)
            return self._owner.token

    @staticmethod
    def _committed(database: sqlite3.Connection, name: str) -> int:
        row = database.execute("SELECT id, kind FROM snapshot WHERE name = ?", (name,)).fetchone()
        if row is None or row[1] != "committed":
            state = "there is none of this name" if row is None else f"it is still {row[1]}"
            raise ContentError(f"snapshot {name} cannot be a parent: {state}")
        return int(row[0])

    def commit(self, name: str, active: str) -> int | None:
        """Make the row `active` committed as `name`; gives the id to drop when `name` was committed before.

        Raises:
            ContentError: `active` is not an active snapshot, or `name` belongs to one.
        """
        with self._transaction() as database:
            row = database.execute("SELECT id, kind FROM snapshot WHERE name = ?", (active,)).fetchone()
            if row is None or row[1] != "active":
                raise ContentError(f"snapshot {active} cannot be committed: it is not active")
            taken = database.execute("SELECT kind FROM snapshot WHERE name = ? AND id <> ?", (name, row[0])).fetchone()
            if taken is not None and taken[0] != "committed":
                raise ContentError(f"snapshot {active} cannot be committed as {name}: the name is in use")
            if taken is not None:
                database.execute("DELETE FROM snapshot WHERE id = ?", (row[0],))
                return int(row[0])
            database.execute(
                "UPDATE snapshot SET name = ?, kind = 'committed', owner = NULL, created_ns = ? WHERE id = ?",
                (name, time.time_ns(), row[0]),
            )
            return None

    def remove(self, name: str) -> int | None:
        """Delete the row; gives its id, or None when there is none.

        Raises:
            ContentError: another snapshot has it as parent.
        """
        with self._transaction() as database:
            entry = self._find(database, name)
            if entry is None:
                return None
            try:
                database.execute("DELETE FROM snapshot WHERE id = ?", (entry.id,))
            except sqlite3.IntegrityError as error:
                raise ContentError(f"snapshot {name} cannot be removed: others stand on it") from error
            return entry.id

    def find(self, name: str) -> Entry | None:
        """The row of `name`."""
        with self._lock:
            return self._find(self._database, name)

    @staticmethod
    def _find(database: sqlite3.Connection, name: str) -> Entry | None:
        row = database.execute("SELECT id, name, parent, kind FROM snapshot WHERE name = ?", (name,)).fetchone()
        return None if row is None else Entry(*row)

    def need(self, name: str) -> Entry:
        """The row of `name`.

        Raises:
            ContentError: there is none.
        """
        entry = self.find(name)
        if entry is None:
            raise ContentError(f"there is no snapshot {name}")
        return entry

    def chain(self, id: int | None) -> tuple[int, ...]:
        """The committed `id` and the ids below it, topmost first."""
        if id is None:
            return ()
        known = self._chains.get(id)
        if known is None:
            with self._lock:
                rows = self._database.execute(
                    "WITH RECURSIVE line(id, parent, depth) AS ("
                    " SELECT id, parent, 0 FROM snapshot WHERE id = ?"
                    " UNION ALL SELECT s.id, s.parent, depth + 1 FROM snapshot s JOIN line ON s.id = line.parent)"
                    " SELECT id FROM line ORDER BY depth",
                    (id,),
                ).fetchall()
            known = self._chains[id] = tuple(row[0] for row in rows)
        return known

    def infos(self, name: str | None = None) -> tuple[Info, ...]:
        """What is known of `name`, or of all."""
        sql = (
            "SELECT s.name, p.name, s.kind, s.created_ns FROM snapshot s LEFT JOIN snapshot p ON p.id = s.parent"
            + (" WHERE s.name = ?" if name is not None else " ORDER BY s.id")
        )  # fmt: skip
        with self._lock:
            rows = self._database.execute(sql, () if name is None else (name,)).fetchall()
        return tuple(Info(row[0], row[1], row[2] == "committed", row[3]) for row in rows)

    def measured(self, id: int) -> tuple[int, int] | None:
        """The remembered (bytes, inodes) of a committed id."""
        with self._lock:
            row = self._database.execute("SELECT size_bytes, inodes FROM snapshot WHERE id = ?", (id,)).fetchone()
        return None if row is None or row[0] is None else (row[0], row[1])

    def remember_measure(self, id: int, size_bytes: int, inodes: int) -> None:
        """Keep what a committed snapshot takes: it cannot change."""
        with self._transaction() as database:
            database.execute("UPDATE snapshot SET size_bytes = ?, inodes = ? WHERE id = ?", (size_bytes, inodes, id))

    def orphans(self, ids_on_disk: Iterable[int]) -> list[int]:
        """Forget the rows of dead owners; gives the ids whose directories nothing needs any more."""
        tokens = Owner.dead(self._owners)
        with self._transaction() as database:
            for token in tokens:
                database.execute("DELETE FROM snapshot WHERE owner = ?", (token,))
            living = {row[0] for row in database.execute("SELECT id FROM snapshot")}
        for token in tokens:
            Owner.forget(self._owners, token)
        return [id for id in ids_on_disk if id not in living]

    def lost(self, ids_on_disk: Iterable[int]) -> tuple[Entry, ...]:
        """Committed rows whose directory somebody has removed behind our back."""
        there = set(ids_on_disk)
        with self._lock:
            rows = self._database.execute("SELECT id, name, parent, kind FROM snapshot WHERE kind = 'committed'")
            return tuple(Entry(*row) for row in rows if row[0] not in there)

    def forget(self, ids: Iterable[int]) -> None:
        """Delete rows, and those that stand on them."""
        with self._transaction() as database:
            for id in ids:
                database.execute(
                    "WITH RECURSIVE useless(id) AS (SELECT ? UNION"
                    " SELECT snapshot.id FROM snapshot JOIN useless ON snapshot.parent = useless.id)"
                    " DELETE FROM snapshot WHERE id IN useless",
                    (id,),
                )

    def unsettled(self) -> bool:
        """Whether committed rows are old enough that the kernel has written them, and no sync was noted yet."""
        with self._lock:
            sql = "SELECT 1 FROM snapshot WHERE kind = 'committed' AND synced = 0 AND created_ns < ? LIMIT 1"
            return self._database.execute(sql, (time.time_ns() - _SETTLED_NS,)).fetchone() is not None

    def synced_since(self, since_ns: int) -> bool:
        """Whether something that was committed after `since_ns` is known to be on the disk."""
        with self._lock:
            sql = "SELECT 1 FROM snapshot WHERE synced = 1 AND created_ns > ? LIMIT 1"
            return self._database.execute(sql, (since_ns,)).fetchone() is not None

    def note_sync(self, before_ns: int) -> None:
        """All that was committed before `before_ns` is on the disk."""
        with self._transaction() as database:
            sql = "UPDATE snapshot SET synced = 1 WHERE kind = 'committed' AND synced = 0 AND created_ns < ?"
            database.execute(sql, (before_ns,))

    def close(self) -> None:
        """Let go of the database and of this process's claim: what is still active counts as left behind.

        Both come back with the next call.
        """
        with self._lock:
            if self._owner is not None and self._owner.is_ours:
                if not self._has_active(self._owner.token):
                    Owner.forget(self._owners, self._owner.token)
                self._owner.release()
                self._owner = None
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _has_active(self, token: str) -> bool:
        try:
            return bool(self._database.execute("SELECT 1 FROM snapshot WHERE owner = ? LIMIT 1", (token,)).fetchone())
        except sqlite3.Error:
            return True  # perhaps: the next sweep looks again


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"
