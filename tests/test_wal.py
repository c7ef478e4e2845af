"""A database that is opened for the first time while another is making it."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import pytest

from knarr import wal

HELD_S = 0.3


@pytest.fixture
def maker(tmp_path: Path) -> sqlite3.Connection:
    """Holds the write lock of a new database, as who makes its tables does."""
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_the_switch_waits_for_who_is_making_the_database(tmp_path: Path, maker: sqlite3.Connection) -> None:
    second = sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=5)
    with pytest.raises(sqlite3.OperationalError):  # SQLite itself does not wait: that is why switch_to is there
        second.execute("PRAGMA journal_mode = WAL")
    let_go = threading.Timer(HELD_S, maker.execute, ("COMMIT",))
    let_go.start()
    started = time.monotonic()
    wal.switch_to(second)
    let_go.join()
    assert time.monotonic() - started >= HELD_S / 2, "it did not have to wait, so this test tests nothing"
    assert second.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    second.close()
    maker.close()


def test_another_failure_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"no database at all" * 100)
    connection = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        wal.switch_to(connection)
    connection.close()
