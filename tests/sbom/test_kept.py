"""Inventories that are kept: found again by what they are of, and gone when there are too many or they are broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.record import replace
from knarr.sbom import kept
from knarr.sbom.package import Inventory, Package

FOUND = Inventory((Package("deb", "a", "1", evidence=("var/lib/dpkg/status",)),), {}, ((),))


def test_an_inventory_is_found_by_what_it_is_of(tmp_path: Path) -> None:
    kept.keep(tmp_path / "sboms", "a", FOUND)
    assert kept.recall(tmp_path / "sboms", "a") == FOUND
    assert kept.recall(tmp_path / "sboms", "b") is None


def test_the_same_findings_keep_the_time_of_the_first(tmp_path: Path) -> None:
    first, again = replace(FOUND, scanned_s=1), replace(FOUND, scanned_s=2)
    assert [kept.first(tmp_path, one).scanned_s for one in (first, again)] == [1, 1]


@pytest.mark.parametrize("raw", [b"", b"{}", b"\x78\x01\x03\x00\x00\x00\x00\x01"])
def test_what_cannot_be_read_is_not_there(tmp_path: Path, raw: bytes) -> None:
    kept.keep(tmp_path, "a", FOUND)
    ((path, _),) = kept.files(tmp_path)
    path.write_bytes(raw)
    assert kept.recall(tmp_path, "a") is None


def test_those_that_were_not_used_for_longest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_MOST", 2)
    for age, key in enumerate("abc"):
        kept.keep(tmp_path, key, FOUND)
        for path, found in kept.files(tmp_path):
            os.utime(path, (found.st_mtime - 10 * age, found.st_mtime - 10 * age))
    assert [kept.recall(tmp_path, key) is not None for key in "abc"] == [False, True, True]


def test_a_directory_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list(kept.files(tmp_path / "none")) == []
    kept.remove(tmp_path / "none", "a")
