from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.runtime.stubs import Point, Stubs

OLD = 1_000_000_000_123_456_789


def point(root: Path, target: str, *, is_directory: bool = True) -> Point:
    return Point(os.fspath(root), target, is_directory)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for path in (root / "etc", root):
        os.utime(path, ns=(OLD, OLD))
    return root


def times(*paths: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in paths]


def test_all_levels_are_made_and_removed_without_a_trace(root: Path) -> None:
    stubs = Stubs.make([point(root, "/a/b/c"), point(root, "/etc/hosts", is_directory=False), point(root, "/a/d")])
    assert (root / "a/b/c").is_dir()
    assert (root / "etc/hosts").is_file()
    made = times(root, root / "etc")
    assert min(made) > OLD  # as with BuildKit: a layer shows it where the step changes something there
    stubs.remove()
    assert os.listdir(root) == ["etc"]
    assert times(root, root / "etc") == made


def test_what_was_there_stays(root: Path) -> None:
    (root / "etc/hosts").touch()
    Stubs.make([point(root, "/etc/hosts", is_directory=False)]).remove()
    assert (root / "etc/hosts").exists()


def test_what_was_filled_meanwhile_stays_with_its_time(root: Path) -> None:
    stubs = Stubs.make([point(root, "/new/mount"), point(root, "/etc/hosts", is_directory=False)])
    (root / "new/file").touch()
    (root / "etc/hosts").write_text("filled")
    (root / "etc/other").touch()
    changed = times(root / "new", root / "etc")
    stubs.remove()
    assert sorted(os.listdir(root / "new")) == ["file"]
    assert sorted(os.listdir(root / "etc")) == ["hosts", "other"]
    assert times(root / "new", root / "etc") == changed


def test_a_link_put_in_the_way_leads_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "mount").mkdir(parents=True)
    stubs = Stubs.make([point(root, "/new/mount")])
    (root / "new").rename(root / "moved")
    os.symlink(outside, root / "new")
    stubs.remove()
    assert (outside / "mount").is_dir()


def test_links_of_the_image_are_followed_inside_it(root: Path) -> None:
    os.symlink("/run", root / "var")
    stubs = Stubs.make([point(root, "/var/lock/x")])
    assert (root / "run/lock/x").is_dir()
    stubs.remove()
    assert sorted(os.listdir(root)) == ["etc", "var"]


def test_a_way_through_a_file_is_an_error_that_leaves_nothing(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        Stubs.make([point(root, "/a"), point(root, "/file/b")])
    assert sorted(os.listdir(root)) == ["etc", "file"]


def test_a_mode_is_given_whatever_the_umask(root: Path) -> None:
    Stubs.make([Point(os.fspath(root), "/scratch", True, 0o1777)])
    assert (root / "scratch").stat().st_mode & 0o7777 == 0o1777
