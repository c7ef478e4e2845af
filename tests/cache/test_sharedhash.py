"""The checksum that shared caches know contents by. That it is BuildKit's: tests/engine/test_sharedrecords.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from knarr.cache.sharedhash import NOTHING, SharedHasher
from knarr.cache.statcache import StatCache
from knarr.patterns import Matcher
from knarr.solver.keys import Selection
from knarr.solver.sharedkeys import content_digest, record_digest

from .conftest import PlantTree

TREE = {"a": "a\n", "d/b": "b\n", "d/sub/c.txt": "c\n", "d/sub/e.c": "e\n", "link": "->d/b", "dlink": "->d"}


@pytest.fixture
def tree(tmp_path: Path, plant: PlantTree) -> Path:
    return plant(tmp_path / "tree", TREE)


def checksum(
    root: Path, path: str, *, wildcard: bool = False, follow: bool = False, **patterns: tuple[str, ...]
) -> str:
    return SharedHasher(root, is_context=True).checksum_of(Selection(path, follow, wildcard, **patterns))


def test_a_file_has_the_digest_that_buildkit_gave_it(tmp_path: Path) -> None:
    (tmp_path / "conf.ini").write_text("conf\n")
    (tmp_path / "conf.ini").chmod(0o644)
    content = content_digest([checksum(tmp_path, "/conf.ini")])
    assert record_digest(content, -1).startswith("sha256:6b9d83f55ed1")


@pytest.mark.parametrize("selection", [Selection("/"), Selection("/d"), Selection("/d/*", wildcard=True)])
def test_content_and_mode_count_and_time_does_not(tree: Path, selection: Selection) -> None:
    before = SharedHasher(tree, is_context=True).checksum_of(selection)
    os.utime(tree / "d/b", (1, 1))
    assert SharedHasher(tree, is_context=True).checksum_of(selection) == before
    (tree / "d/b").chmod(0o700)
    changed = SharedHasher(tree, is_context=True).checksum_of(selection)
    (tree / "d/b").write_text("other")
    assert len({before, changed, SharedHasher(tree, is_context=True).checksum_of(selection)}) == 3


@pytest.mark.root
def test_owners_count_in_a_stage_and_not_in_a_context(tree: Path) -> None:
    before = checksum(tree, "/a"), SharedHasher(tree).checksum_of(Selection("/a"))
    os.chown(tree / "a", 5, 6)
    after = checksum(tree, "/a"), SharedHasher(tree).checksum_of(Selection("/a"))
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_the_root_of_a_context_has_no_mode(tree: Path) -> None:
    before = checksum(tree, "/")
    tree.chmod(0o700)
    assert checksum(tree, "/") == before


def test_a_link_is_itself_or_what_it_leads_to(tree: Path) -> None:
    assert checksum(tree, "/link") != checksum(tree, "/d/b")
    assert checksum(tree, "/link", follow=True) == checksum(tree, "/d/b")
    assert checksum(tree, "/dlink/b") == checksum(tree, "/d/b")


def test_what_is_hidden_does_not_count(tree: Path) -> None:
    hidden = Matcher(["d/sub", "!d/sub/c.txt"])
    before = SharedHasher(tree, is_context=True, hidden=hidden).checksum_of(Selection("/d"))
    (tree / "d/sub/e.c").unlink()
    assert SharedHasher(tree, is_context=True, hidden=hidden).checksum_of(Selection("/d")) == before
    assert checksum(tree, "/d") == before


def test_patterns_leave_out_what_does_not_match(tree: Path) -> None:
    before = checksum(tree, "/d", exclude=("**/*.c",))
    (tree / "d/sub/e.c").write_text("changed")
    assert checksum(tree, "/d", exclude=("**/*.c",)) == before
    (tree / "d/sub/c.txt").write_text("changed")
    assert checksum(tree, "/d", exclude=("**/*.c",)) != before


def test_an_included_file_brings_the_directories_above_it(tree: Path) -> None:
    before = checksum(tree, "/", include=("d/sub/c.txt",))
    (tree / "d/sub").chmod(0o700)
    assert checksum(tree, "/", include=("d/sub/c.txt",)) != before


@pytest.mark.parametrize("selection", [Selection("/nope"), Selection("/nope*", wildcard=True), Selection("/a/b")])
def test_nothing_has_a_checksum_too(tree: Path, selection: Selection) -> None:
    assert SharedHasher(tree, is_context=True).checksum_of(selection) == NOTHING


def test_wildcards_do_not_lead_through_links(tree: Path) -> None:
    assert checksum(tree, "/*/b", wildcard=True) == checksum(tree, "/d/b")


def test_a_thousand_directories_deep(tmp_path: Path) -> None:
    deep = place = os.fspath(tmp_path / "deep")
    try:
        for _ in range(1000):
            os.mkdir(place)
            place += "/d"
        assert checksum(Path(deep), "/") != NOTHING
    finally:
        subprocess.run(["rm", "-rf", deep], check=True)  # shutil.rmtree is recursive


def test_files_that_kept_their_stat_are_not_read_again(tree: Path, tmp_path: Path) -> None:
    now = os.stat(tree / "a").st_ctime_ns + 10**11
    memory = StatCache(tmp_path / "memory", now_ns=now)
    before = SharedHasher(tree, is_context=True, cache=memory).checksum_of(Selection("/a"))
    assert memory.lookup(os.lstat(tree / "a")) == bytes.fromhex(before.removeprefix("sha256:"))
