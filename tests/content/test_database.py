from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from knarr.content.database import Database
from knarr.content.store import Store
from knarr.errors import ContentError


def test_blobs_need_no_database(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from knarr.content.store import Store;"
        "store = Store(Path(sys.argv[1])); store.read(store.put('', b'x')); assert 'sqlite3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert not (tmp_path / "meta.db").exists()


def test_an_error_rolls_the_transaction_back(store: Store) -> None:
    def half() -> None:
        with store.database.write() as db:
            db.execute("INSERT INTO leases VALUES ('a', 'b', 1)")
            db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(ContentError, match="no such table"):
        half()
    with store.database.read() as db:
        assert db.execute("SELECT count(*) FROM leases").fetchone() == (0,)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "meta.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ContentError, match="is of version 99"), Database(tmp_path / "meta.db").read():
        pass


def test_a_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "meta.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(ContentError, match=r"meta\.db: "), Database(tmp_path / "meta.db").read():
        pass


def test_close_and_go_on(store: Store) -> None:
    store.names.list()
    store.close()
    assert store.names.list() == ()
