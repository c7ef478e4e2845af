from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import ContentError, KnarrError
from knarr.snapshot import mounting
from knarr.snapshot.mounting import attach, detach, escape_lower, mounted, split_lowers
from knarr.snapshot.snapshotter import Mount

root = pytest.mark.root


def lower_directories(base: Path, count: int) -> list[str]:
    paths = []
    for number in range(count):
        path = base / f"layer-with-a-name-of-some-length-{number}"
        path.mkdir()
        (path / f"file{number}").touch()
        paths.append(os.fspath(path))
    return paths


def overlay(lowers: list[str], base: Path) -> Mount:
    (base / "upper").mkdir()
    (base / "work").mkdir()
    lower = ":".join(map(escape_lower, lowers))
    return Mount("overlay", "overlay", (f"lowerdir={lower}", f"upperdir={base}/upper", f"workdir={base}/work"))


@root
@pytest.mark.parametrize("count", [2, 300])
def test_an_overlay_shows_all_its_layers(tmp_path: Path, at: Path, count: int) -> None:
    mount = overlay(lower_directories(tmp_path, count), tmp_path)
    with mounted((mount,), at) as tree:
        assert len(os.listdir(tree)) == count
        (tree / "new").write_text("x")
    assert (tmp_path / "upper/new").read_text() == "x"
    assert not at.exists()


@root
def test_many_layers_fit_an_old_kernel_by_short_names(tmp_path: Path, at: Path) -> None:
    here = os.getcwd()
    lowers = lower_directories(tmp_path, 80)
    assert len(":".join(lowers)) > 4096
    at.mkdir()
    mounting._overlay_by_short_names(os.fspath(at), 0, lowers, [])
    try:
        assert len(os.listdir(at)) == 80
        assert os.getcwd() == here
    finally:
        detach(at)


@root
def test_letters_that_mean_something_to_overlay_are_escaped(tmp_path: Path, at: Path) -> None:
    base = tmp_path / "a:b,c"
    base.mkdir()
    with mounted((overlay(lower_directories(base, 3), base),), at) as tree:
        (tree / "new").touch()
        assert sorted(os.listdir(tree)) == ["file0", "file1", "file2", "new"]
    assert (base / "upper/new").exists()


@root
def test_more_layers_than_the_kernel_takes_are_refused_in_words(tmp_path: Path, at: Path) -> None:
    mount = overlay([f"/layer/number/{n}" for n in range(501)], tmp_path)
    with pytest.raises(ContentError, match="501 layers"), mounted((mount,), at):
        pass


@root
def test_a_read_only_bind_cannot_be_written(tmp_path: Path, at: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (
        mounted((Mount("bind", os.fspath(source), ("bind", "ro")),), at) as tree,
        pytest.raises(OSError, match="Read-only"),
    ):
        (tree / "x").touch()


@root
def test_when_a_later_mount_fails_the_earlier_is_taken_off(tmp_path: Path, at: Path) -> None:
    at.mkdir()
    good = Mount("tmpfs", "tmpfs", ("size=1m",))
    with pytest.raises(KnarrError, match="cannot mount bind"):
        attach((good, Mount("bind", "/does/not/exist", ("bind",))), at)
    assert not os.path.ismount(at)


@root
def test_a_busy_mount_is_detached_all_the_same(tmp_path: Path, at: Path) -> None:
    at.mkdir()
    attach((Mount("tmpfs", "tmpfs"),), at)
    with open(at / "open", "w"):
        detach(at)
        assert not os.path.ismount(at)
    detach(at)  # nothing there: no complaint


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1), min_size=1))
@settings(max_examples=60, deadline=None)
def test_lower_directories_come_back_as_they_were_joined(paths: list[str]) -> None:
    assert split_lowers(":".join(map(escape_lower, paths))) == paths
