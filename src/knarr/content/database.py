"""The store's database: image names, leases and where blobs are known to be, in one SQLite file.

SQLite in WAL mode lets many processes read while one writes; a writer that finds
another waits up to `BUSY_S`. Nothing here is needed to read a blob, so the file
is opened (and the module sqlite3 loaded, 4 ms) at the first question.

With WAL and synchronous=NORMAL a killed process loses nothing and a power cut
may lose the last transactions, never the file: like blobs that are not yet on
disk, they are then simply not there.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from knarr import disk, wal
from knarr.errors import ContentError

if TYPE_CHECKING:
    import sqlite3

BUSY_S = 30.0  # a writer holds the lock for milliseconds; this long means that it is stuck
_VERSION = 1

_SCHEMA = """
CREATE TABLE names (
    name TEXT PRIMARY KEY, digest TEXT NOT NULL, descriptor TEXT NOT NULL, updated_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE name_history (name TEXT NOT NULL, descriptor TEXT NOT NULL, set_ns INTEGER NOT NULL);
CREATE INDEX name_history_name ON name_history (name, set_ns);
CREATE TABLE leases (id TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease_items (
    lease TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE, digest TEXT NOT NULL, PRIMARY KEY (lease, digest)
) WITHOUT ROWID;
CREATE TABLE sources (
    digest TEXT NOT NULL, repository TEXT NOT NULL, seen_ns INTEGER NOT NULL, PRIMARY KEY (digest, repository)
) WITHOUT ROWID;
"""


class Database:
    """A lazily opened connection, shared by the threads of this process one at a time."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        """With `durable`, what is committed survives a power cut, at the price of an fsync for each transaction."""
        self._path = path
        self._durable = durable
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for questions."""
        with self._lock, _translated(self._path):
            connection = self._open()
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The connection inside a write transaction: committed at the end, rolled back on an error."""
        with self._lock, _translated(self._path):
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled it back already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connection; the next question opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                wal.close([self._connection], self._path)
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        # SQLite's file locks do not survive a fork: a child that used the parent's connection could corrupt the file.
        if self._connection is None or self._pid != os.getpid():
            self._connection, self._pid = _connect(self._path, durable=self._durable), os.getpid()
        return self._connection


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    import sqlite3

    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        wal.switch_to(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        if _version(connection) < _VERSION:
            _create(connection)
        if (version := _version(connection)) > _VERSION:
            raise ContentError(
                f"{path} is of version {version}; this knarr knows version {_VERSION}",
                hint="use the newer knarr that made it",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _version(connection) < _VERSION:  # another process may have been first
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        if disk.database_lacks_room(error, path):
            raise disk.no_room(path.parent) from error
        damaged = getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
        hint = "knarr doctor --store --repair moves it away: image names are lost then, blobs are not"
        raise ContentError(f"{path}: {error}", hint=hint if damaged else "") from error
