"""Directories of clients, from build to build."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from knarr.session.kept import Kept


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "locals")


def test_the_same_key_finds_what_was_left(kept: Kept) -> None:
    with kept.lease("key", "context") as directory:
        (directory / "file").touch()
    with kept.lease("key", "context") as again:
        assert again == directory
        assert (again / "file").exists()
    with kept.lease("other", "context") as other:
        assert other != directory


def test_one_that_is_in_use_is_neither_lent_twice_nor_removed(kept: Kept) -> None:
    with kept.lease("key", "context") as first, kept.lease("key", "context") as second:
        assert first != second
        assert [kept.remove(found.name) for found in kept.all()] == [False, False]
        assert first.is_dir()


def test_one_that_failed_is_emptied(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/pipe").symlink_to("nowhere")
    with pytest.raises(shutil.Error), kept.lease("key", "context") as directory:
        shutil.copytree(tmp_path / "source", directory / "half")
    with kept.lease("key", "context") as again:
        assert not list(again.iterdir())


def test_they_are_listed_and_removed(kept: Kept) -> None:
    with kept.lease("key", "local source for context"):
        pass
    (found,) = kept.all()
    assert found.what == "local source for context"
    assert found.used_ns >= found.created_ns > 0
    assert kept.remove(found.name)
    assert not list(kept.all())
