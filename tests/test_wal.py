"""The WAL of a closed file: it stays while it is small, and everything in it counts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from knarr import wal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "what? 100%.db"  # a name that an address must escape


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE IF NOT EXISTS t (a)")
    return connection


def test_a_small_wal_stays_and_is_read_by_the_next(path: Path) -> None:
    first, second = opened(path), opened(path)
    first.execute("INSERT INTO t VALUES (1)")
    wal.close([first, second], path)
    assert Path(f"{path}-wal").stat().st_size > 0
    again = opened(path)
    assert again.execute("SELECT a FROM t").fetchall() == [(1,)]
    again.close()
    assert not Path(f"{path}-wal").exists()


def test_a_large_wal_is_put_into_the_file(path: Path) -> None:
    connection = opened(path)
    connection.execute("INSERT INTO t VALUES (?)", (bytes(2 << 20),))
    wal.close([connection], path)
    assert not Path(f"{path}-wal").exists()
    assert path.stat().st_size > 2 << 20


def test_a_file_that_is_gone_is_closed_all_the_same(path: Path) -> None:
    connection = opened(path)
    path.unlink()
    wal.close([connection], path)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
