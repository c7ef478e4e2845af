"""A database that many open for the first time at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from knarr import wal

OPENER = """
import sys, sqlite3
from knarr import wal
sys.stdin.read(1)
for number in range(40):
    connection = sqlite3.connect(f"{sys.argv[1]}/{number}.db", isolation_level=None)
    wal.switch_to(connection)
    connection.execute("PRAGMA user_version = 1")
    connection.close()
"""


def test_many_who_switch_at_once_all_succeed(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    ended = [opener.communicate(b"x", timeout=120)[1].decode() for opener in openers]
    assert [text for text in ended if text] == []
    assert [opener.returncode for opener in openers] == [0] * 4


def test_a_switched_database_stays_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        wal.switch_to(connection)
    connection.close()
    with sqlite3.connect(path) as again:
        assert again.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    again.close()
