from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from knarr.cache.statcache import StatCache

LATER_NS = 10_000_000_000
DIGEST = b"d" * 32


def now() -> int:
    return time.time_ns()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("text")
    return path


def test_what_was_remembered_is_known_in_the_next_run(tmp_path: Path, file: Path) -> None:
    first = StatCache(tmp_path / "cache", now_ns=now() + LATER_NS)
    first.remember(os.lstat(file), DIGEST)
    first.save()
    assert StatCache(tmp_path / "cache").lookup(os.lstat(file)) == DIGEST


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, file: Path) -> None:
    cache = StatCache(tmp_path / "cache")
    cache.remember(os.lstat(file), DIGEST)
    assert cache.lookup(os.lstat(file)) is None
    cache.save()
    assert not (tmp_path / "cache").exists()


def test_a_coarse_clock_needs_a_longer_rest(tmp_path: Path, file: Path) -> None:
    stat = os.lstat(file)
    whole = os.stat_result(stat[:10], {"st_ctime_ns": 5_000_000_000, "st_mtime_ns": 0})
    fine = os.stat_result(stat[:10], {"st_ctime_ns": 5_000_000_001, "st_mtime_ns": 0})
    cache = StatCache(tmp_path / "cache", now_ns=6_000_000_000)
    for found in (whole, fine):
        cache.remember(found, DIGEST)
    assert cache.lookup(whole) is None
    assert cache.lookup(fine) == DIGEST


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer text"),
        lambda path: path.chmod(0o600),
        lambda path: os.utime(path, ns=(1, 1)),
        lambda path: path.rename(path.with_name("moved")) and path.with_name("file").write_text("text"),
    ],
)
def test_a_changed_file_is_not_known(tmp_path: Path, file: Path, change: object) -> None:
    cache = StatCache(tmp_path / "cache", now_ns=now() + LATER_NS)
    cache.remember(os.lstat(file), DIGEST)
    time.sleep(0.02)  # more than one tick of the file system's clock
    assert callable(change)
    change(file)
    assert cache.lookup(os.lstat(file)) is None


def test_bytes_replaced_under_an_old_mtime_are_noticed(tmp_path: Path, file: Path) -> None:
    before = os.lstat(file)
    cache = StatCache(tmp_path / "cache", now_ns=now() + LATER_NS)
    cache.remember(before, DIGEST)
    time.sleep(0.02)
    file.write_text("TEXT")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.lstat(file).st_mtime_ns == before.st_mtime_ns
    assert cache.lookup(os.lstat(file)) is None


def test_entries_that_were_not_asked_for_stay(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other"
    other.write_text("other")
    for path in (file, other):
        cache = StatCache(tmp_path / "cache", now_ns=now() + LATER_NS)
        cache.remember(os.lstat(path), DIGEST)
        cache.save()
    last = StatCache(tmp_path / "cache")
    assert last.lookup(os.lstat(file)) == last.lookup(os.lstat(other)) == DIGEST


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:50], lambda data: b"", lambda data: data[:-1] + b"x"]
)
def test_a_torn_file_is_an_empty_cache(tmp_path: Path, file: Path, damage: object) -> None:
    path = tmp_path / "cache"
    cache = StatCache(path, now_ns=now() + LATER_NS)
    cache.remember(os.lstat(file), DIGEST)
    cache.save()
    assert callable(damage)
    path.write_bytes(damage(path.read_bytes()))
    assert StatCache(path).lookup(os.lstat(file)) is None


def test_directories_have_caches_of_their_own(tmp_path: Path, file: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    cache = StatCache.for_directory(tmp_path / "caches", one, now_ns=now() + LATER_NS)
    cache.remember(os.lstat(file), DIGEST)
    cache.save()
    assert StatCache.for_directory(tmp_path / "caches", two / ".." / "one").lookup(os.lstat(file)) == DIGEST
    assert StatCache.for_directory(tmp_path / "caches", two).lookup(os.lstat(file)) is None
