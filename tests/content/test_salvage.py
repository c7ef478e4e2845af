"""What a damaged database loses, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.content.database import Database
from knarr.content.salvage import COPY, keep_copy, salvage
from knarr.content.store import Store
from knarr.errors import ContentError
from knarr.registry import tables
from knarr.wal import is_damaged

ROWS = 3000


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """The database of a registry with one repository of many blobs."""
    store = Store(tmp_path)
    with store.database.write() as db:
        tables.create(db)
        for number in range(ROWS):
            tables.add_blob(db, "team/app", f"sha256:{number:064x}", number, 1)
    store.close()
    return tmp_path / "meta.db"


def blobs(meta: Path) -> set[int]:
    database = Database(meta)
    try:
        with database.read() as db:
            return {row[0] for row in db.execute("SELECT size FROM registry_blobs")}
    finally:
        database.close()


def damage(meta: Path, pages: int, *, middle: bool = True) -> None:
    """Garbage in place of pages, of the first ones or in the middle; the log is made part of the file before."""
    database = Database(meta)
    with database.write() as db:
        db.execute("UPDATE registry_blobs SET added_ns = 2")
    with database.read() as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with meta.open("r+b") as file:
        file.seek(meta.stat().st_size // 4096 // 2 * 4096 if middle else 0)
        file.write(b"garbage " * 512 * pages)
    assert is_damaged(meta)


def test_a_hole_in_the_middle_costs_what_was_in_it(meta: Path) -> None:
    damage(meta, 4)
    done = salvage(meta, tables.create)
    assert ROWS * 0.5 < len(blobs(meta)) <= ROWS
    assert done.copied_from == 0.0
    assert not is_damaged(meta)
    assert done.aside.exists()


def test_the_copy_fills_the_hole(meta: Path) -> None:
    keep_copy(meta)
    damage(meta, 40)
    done = salvage(meta, tables.create)
    assert blobs(meta) == set(range(ROWS))
    assert done.copied_from > 0


def test_of_a_file_of_garbage_the_copy_is_left(meta: Path) -> None:
    keep_copy(meta)
    damage(meta, 1, middle=False)
    salvage(meta, tables.create)
    assert blobs(meta) == set(range(ROWS))


def test_without_a_copy_garbage_is_begun_anew(meta: Path) -> None:
    damage(meta, 1, middle=False)
    assert salvage(meta, tables.create).rows == 0
    assert blobs(meta) == set()


def test_what_is_only_in_the_log_is_saved(meta: Path) -> None:
    keep_copy(meta)
    database = Database(meta)
    with database.write() as db:
        tables.add_blob(db, "team/app", f"sha256:{ROWS:064x}", ROWS, 3)
    database.close()
    assert meta.with_name("meta.db-wal").stat().st_size
    salvage(meta, tables.create)
    assert blobs(meta) == set(range(ROWS + 1))


def test_a_damaged_database_leaves_the_copy_alone(meta: Path) -> None:
    keep_copy(meta)
    before = meta.with_name(COPY).read_bytes()
    damage(meta, 4)
    with pytest.raises(ContentError, match=r"damaged|malformed"):
        keep_copy(meta)
    assert meta.with_name(COPY).read_bytes() == before
    assert sorted(file.name for file in meta.parent.glob("meta.db.*")) == [COPY]


def test_nothing_is_copied_when_nothing_has_changed(meta: Path) -> None:
    keep_copy(meta)
    before = meta.with_name(COPY).stat().st_ino
    keep_copy(meta)
    assert meta.with_name(COPY).stat().st_ino == before
