"""The cache store: keys → records, in one SQLite file that many threads and processes share.

A record is found by any of its keys. Records whose result is gone are removed with
their keys: what they were called follows from the graph (`solver.keys`), so nothing
above them misses because of it.

    store = CacheStore(settings.cache_db)
    store.save(Record(id, parent=base, snapshot=name), keys=(fast, slow))
    found = store.lookup_many([fast])

The file is in WAL mode with `synchronous=NORMAL`: a kill loses nothing that was
saved, a power cut at most the newest records, never the file. The WAL stays beside
the file from build to build, until it has grown.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr import disk, wal
from knarr.cache.record import Record, RecordId
from knarr.errors import Bug, ContentError, NotFound
from knarr.record import replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    import sqlite3

_BUSY_S = 60.0  # how long to wait for another process's write: they are short, but a disk may stall
_BATCH = 500  # SQLite takes 999 parameters in its smallest builds
_RUNS_KEPT = 8  # ingredients of a step's last runs, of all platforms
_NEVER = 2**63 - 1  # nanoseconds
_RUNS_ALIKE = 50  # of steps that might be the same line before an edit

_VERSION = 1
_SCHEMA = """
CREATE TABLE record (
    id TEXT PRIMARY KEY, parent TEXT, snapshot TEXT, blob TEXT, diff_id TEXT, same_as TEXT, remote TEXT NOT NULL,
    kind TEXT NOT NULL, description TEXT NOT NULL, size_bytes INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    used_ns INTEGER NOT NULL, uses INTEGER NOT NULL, history TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX record_parent ON record (parent);
CREATE INDEX record_same_as ON record (same_as);
CREATE TABLE key (key TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX key_record ON key (record);
CREATE TABLE run (
    step TEXT NOT NULL, at_ns INTEGER NOT NULL, ingredients TEXT NOT NULL, PRIMARY KEY (step, at_ns)
) WITHOUT ROWID;
"""
_COLUMNS = (
    *("id", "parent", "snapshot", "blob", "diff_id", "same_as", "remote"),
    *("kind", "description", "size_bytes", "created_ns", "used_ns", "uses", "history"),
)
_SELECT = "SELECT " + ", ".join(f"record.{column}" for column in _COLUMNS)
_INSERT = f"INSERT OR REPLACE INTO record ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_LINK = "INSERT OR REPLACE INTO key (key, record) VALUES (?, ?)"


class CacheStore:
    """Records and keys in the SQLite file `path`, which is made when it is first used.

    Every method may be called from any thread. Failures of the file (full, damaged, not
    writable) are raised as ContentError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []  # open connections nobody uses just now
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file; the store opens it again when it is used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        if idle:
            wal.close(idle, self._path)

    # --- keys

    def lookup(self, key: str) -> Record | None:
        """The record `key` leads to."""
        return self.lookup_many((key,)).get(key)

    def lookup_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """The records `keys` lead to; keys that lead nowhere are left out."""
        query = f"{_SELECT}, key.key FROM key JOIN record ON record.id = key.record WHERE key.key IN "
        with self._connection() as db:
            return {row[-1]: _record(row) for row in _select_in(db, query, keys)}

    def link(self, key: str, record: RecordId) -> None:
        """Let `key` lead to `record` from now on."""
        self.link_many(((key, record),))

    def link_many(self, links: Iterable[tuple[str, RecordId]]) -> None:
        """Let each key lead to its record, all at once."""
        with self._writing() as db:
            db.executemany(_LINK, links)

    # --- records

    def get(self, record: RecordId) -> Record | None:
        """The record of this id."""
        with self._connection() as db:
            row = db.execute(f"{_SELECT} FROM record WHERE id = ?", (record,)).fetchone()
        return _record(row) if row is not None else None

    def chain(self, record: RecordId) -> tuple[Record, ...]:
        """The records of a tree from the bottom up, ending in `record`.

        Raises:
            NotFound: a link of the chain is gone.
        """
        query = f"""WITH RECURSIVE link (id, depth) AS (
                SELECT ?, 0 UNION ALL
                SELECT record.parent, depth + 1 FROM link JOIN record ON record.id = link.id
                WHERE record.parent IS NOT NULL AND depth < 10000
            ) {_SELECT} FROM link JOIN record ON record.id = link.id ORDER BY depth DESC"""
        with self._connection() as db:
            links = tuple(_record(row) for row in db.execute(query, (record,)))
        if not links or links[0].parent is not None:
            raise NotFound(f"cache record {links[0].parent if links else record} is gone")
        return links

    def children(self, record: RecordId) -> tuple[Record, ...]:
        """The records that need `record`: as their parent, or as the one that has their change."""
        with self._connection() as db:
            rows = db.execute(f"{_SELECT} FROM record WHERE parent = ? OR same_as = ?", (record, record))
            return tuple(_record(row) for row in rows)

    def all(self) -> tuple[Record, ...]:
        """Every record, in no particular order."""
        with self._connection() as db:
            return tuple(_record(row) for row in db.execute(f"{_SELECT} FROM record"))

    def save(self, record: Record, keys: Iterable[str] = ()) -> None:
        """Write `record`, in place of an older one of its id, and let `keys` lead to it."""
        self.save_many(((record, keys),))

    def save_many(self, records: Iterable[tuple[Record, Iterable[str]]]) -> None:
        """Write records with their keys, all or none of them."""
        records = [(record, tuple(keys)) for record, keys in records]
        with self._writing() as db:
            db.executemany(_INSERT, [_row(record) for record, _ in records])
            db.executemany(_LINK, [(key, record.id) for record, keys in records for key in keys])

    def ensure(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Write those of `records` that are not there yet, and return all as they are now.

        For the layers of a base image, which many builds come with: a record that is there keeps
        its snapshot and its blob, and gains the repositories that are new in `remote`.
        """
        with self._writing() as db:
            query = f"{_SELECT} FROM record WHERE id IN "
            known = {row[0]: _record(row) for row in _select_in(db, query, [record.id for record in records])}
            now = tuple(_joined(known.get(record.id), record) for record in records)
            changed = [_row(record) for record in now if known.get(record.id) != record]
            db.executemany(_INSERT, changed)
        return now

    def update(self, record: RecordId, **changes: Any) -> None:
        """Set the fields of a record that are named in `changes`, which hold what Record has (Any: of any field).

        Raises:
            NotFound: there is no such record.
        """
        if not changes or not changes.keys() <= set(_COLUMNS) - {"id"}:
            raise Bug(f"a record has no fields {', '.join(changes)}")
        columns = ", ".join(f"{column} = ?" for column in changes)
        values = [_column(column, value) for column, value in changes.items()]
        with self._writing() as db:
            if not db.execute(f"UPDATE record SET {columns} WHERE id = ?", (*values, record)).rowcount:
                raise NotFound(f"cache record {record} is gone")

    def touch(self, records: Iterable[RecordId], *, now_ns: int = 0) -> None:
        """Note that these were used now; unknown ones are passed over."""
        now_ns = now_ns or time.time_ns()
        with self._writing() as db:
            db.executemany(
                "UPDATE record SET used_ns = max(used_ns, ?), uses = uses + 1 WHERE id = ?",
                [(now_ns, record) for record in records],
            )

    def remove(self, *records: RecordId) -> None:
        """Forget records and their keys. Snapshots and blobs are the caller's to delete, afterwards."""
        ids = [(record,) for record in records]
        with self._writing() as db:
            db.executemany("DELETE FROM key WHERE record = ?", ids)
            db.executemany("DELETE FROM record WHERE id = ?", ids)

    # --- what steps were made of, for `solver.explain`

    def remember(self, step: str, ingredients: Mapping[str, str], *, now_ns: int = 0) -> None:
        """Keep what this run of `step` was made of; the oldest of more than `_RUNS_KEPT` runs is dropped."""
        data = json.dumps(dict(ingredients), separators=(",", ":"))
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO run VALUES (?, ?, ?)", (step, now_ns or time.time_ns(), data))
            db.execute(
                "DELETE FROM run WHERE step = ? AND at_ns NOT IN"
                " (SELECT at_ns FROM run WHERE step = ? ORDER BY at_ns DESC LIMIT ?)",
                (step, step, _RUNS_KEPT),
            )

    def recall(self, step: str, *, before_ns: int = _NEVER) -> list[dict[str, str]]:
        """What the last runs of `step` were made of, newest first."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT ingredients FROM run WHERE step = ? AND at_ns < ? ORDER BY at_ns DESC", (step, before_ns)
            )
            return [json.loads(data) for (data,) in rows]

    def recall_like(self, beginning: str, *, before_ns: int = _NEVER) -> list[tuple[str, dict[str, str]]]:
        """The last runs of all steps whose names begin so: the name, what it was made of. Newest first."""
        with self._connection() as db:
            rows = db.execute(
                "SELECT step, ingredients FROM run WHERE step >= ? AND step < ? AND at_ns < ?"
                " ORDER BY at_ns DESC LIMIT ?",
                (beginning, beginning + "\U0010ffff", before_ns, _RUNS_ALIKE),
            )
            return [(step, json.loads(data)) for step, data in rows]

    # --- connections

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection nobody else uses meanwhile: threads are many and short, connections few."""
        import sqlite3  # 4 ms, and not needed by a command that never opens the cache

        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or self._open()
            yield connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
                connection = None
            raise _told(self._path, error) from error
        finally:
            if connection is not None:
                with self._lock:
                    self._idle.append(connection)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction that is committed in the end, or rolled back."""
        with self._connection() as db:
            # IMMEDIATE: a transaction that starts with reading could not be made to wait for another writer.
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
                _create(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _create(connection: sqlite3.Connection) -> None:
    """Make the tables, unless another process was faster."""
    wal.switch_to(connection)
    connection.execute("BEGIN IMMEDIATE")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.execute("COMMIT")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        raise ContentError(f"the build cache has format {version}, which this knarr does not know")


def _told(path: Path, error: sqlite3.Error) -> ContentError:
    if disk.database_lacks_room(error, path):
        return disk.no_room(path.parent)
    hints = {
        "SQLITE_NOTADB": "knarr doctor --store --repair moves it away: it is only a cache",
        "SQLITE_CORRUPT": "knarr doctor --store --repair moves it away: it is only a cache",
        "SQLITE_READONLY": "let this user write there, or set KNARR_ROOT to a directory where it may",
        "SQLITE_CANTOPEN": "let this user write there, or set KNARR_ROOT to a directory where it may",
        "SQLITE_BUSY": "another knarr holds the file; try again when it is done",
    }
    # SQLite names a family and, behind it, the case (SQLITE_READONLY_DIRECTORY).
    family = "_".join((getattr(error, "sqlite_errorname", None) or "").split("_")[:2])
    return ContentError(f"build cache {path}: {error}", hint=hints.get(family, ""))


def _select_in(db: sqlite3.Connection, query: str, values: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of `query`, which ends in `IN`, for all `values`. (Any: SQLite's values.)"""
    for start in range(0, len(values), _BATCH):
        batch = values[start : start + _BATCH]
        yield from db.execute(f"{query} ({', '.join('?' * len(batch))})", batch)


def _joined(known: Record | None, record: Record) -> Record:
    if known is None or (known.snapshot is None and known.blob is None and known.same_as is None):
        return record
    new = tuple(place for place in record.remote if place not in known.remote)
    return replace(known, remote=known.remote + new)


# --- rows


def _row(record: Record) -> tuple[object, ...]:
    return tuple(_column(column, getattr(record, column)) for column in _COLUMNS)


def _column(column: str, value: Any) -> object:
    if column == "blob":
        return None if value is None else json.dumps(value.to_json())
    if column == "history":
        return json.dumps(value) if value else ""
    if column == "remote":
        return "\n".join(value)
    if column == "created_ns" and not value:
        return time.time_ns()
    if column == "diff_id" and value is not None:
        return str(value)
    return value


def _record(row: Sequence[Any]) -> Record:
    return Record(
        id=row[0],
        parent=row[1],
        snapshot=row[2],
        blob=Descriptor.from_json(json.loads(row[3])) if row[3] else None,
        diff_id=Digest(row[4]) if row[4] else None,
        same_as=row[5],
        remote=tuple(row[6].split("\n")) if row[6] else (),
        kind=row[7],
        description=row[8],
        size_bytes=row[9],
        created_ns=row[10],
        used_ns=row[11],
        uses=row[12],
        history=json.loads(row[13]) if row[13] else {},
    )
