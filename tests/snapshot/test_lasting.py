from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import Bug, ContentError, KnarrError
from knarr.snapshot.lasting import LastingLedger
from knarr.snapshot.native import Native


@pytest.fixture
def driver(tmp_path: Path) -> Native:
    return Native(tmp_path, lasting=True)


def test_labels_stay_with_their_snapshot_and_go_with_it(driver: Native, tmp_path: Path) -> None:
    driver.prepare("a", None)
    driver.lasting.label("a", {"k": "v"})
    driver.commit("b", "a")
    driver.close()
    again = Native(tmp_path, lasting=True)
    (found,) = again.lasting.details()
    assert (found.name, found.kind, found.labels) == ("b", "committed", {"k": "v"})
    again.remove("b")
    assert again.lasting.details() == ()
    with pytest.raises(ContentError):
        again.lasting.label("b", {})


def test_a_sweep_takes_nothing_that_was_begun_by_who_is_dead(driver: Native, tmp_path: Path) -> None:
    driver.prepare("a", None)
    driver.close()
    again = Native(tmp_path, lasting=True)
    assert again.sweep() == 0
    assert [one.name for one in again.lasting.details()] == ["a"]
    (tmp_path / "99").mkdir()
    assert again.leftovers() == (tmp_path / "99",)


def test_the_next_boot_takes_nothing(tmp_path: Path) -> None:
    ledger = LastingLedger(tmp_path)
    ledger._boot = "an earlier one"
    ledger.begin("a", None, "active")
    ledger.close()
    assert [one.name for one in LastingLedger(tmp_path).details()] == ["a"]


def test_damaged_books_are_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "snapshots.db").write_bytes(b"no database" * 1000)
    with pytest.raises(KnarrError, match="is damaged"):
        LastingLedger(tmp_path).details()
    assert (tmp_path / "snapshots.db").stat().st_size == 11000


def test_a_driver_of_builds_has_no_lasting_books(tmp_path: Path) -> None:
    with pytest.raises(Bug):
        _ = Native(tmp_path).lasting
