"""`mode=delete`: what goes, and above all what never does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import KnarrError, UsageError
from knarr.export.leftovers import check_deletable


def listing(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def export(world: Any, dest: Path, *platforms: str) -> None:
    world.export("local", world.result(*platforms), dest=str(dest), mode="delete")


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    """A directory with what is also in the result, what is not, and what stands in the result's way."""
    dest = tmp_path / "place/out"
    for name in ("etc/arch", "etc/stale", "stale/deep/file", "bin/tool/x"):
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / name).write_text("old")
    return dest


def test_only_the_result_is_left(world: Any, dest: Path) -> None:
    export(world, dest)

    assert listing(dest) == ["bin", "bin/tool", "etc", "etc/arch"]
    assert (dest / "etc/arch").read_text() == "linux/amd64"


def test_each_platform_keeps_its_directory_and_nothing_else_is_kept(world: Any, dest: Path) -> None:
    (dest / "linux_arm64").mkdir()
    (dest / "linux_arm64/old").touch()

    export(world, dest, "linux/amd64", "linux/arm64")

    assert sorted(os.listdir(dest)) == ["linux_amd64", "linux_arm64"]
    assert listing(dest / "linux_arm64") == ["bin", "bin/tool", "etc", "etc/arch"]


def test_a_slash_at_the_end_or_a_link_to_the_directory_changes_nothing(world: Any, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(dest)
    world.export("local", world.result(), dest=f"{tmp_path}/link/", mode="delete")

    assert listing(dest) == ["bin", "bin/tool", "etc", "etc/arch"]


def test_nothing_outside_is_touched_whatever_links_lead_there(world: Any, dest: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "arch").mkdir(parents=True)
    (outside / "arch/precious").write_text("precious")
    (dest / "link").symlink_to(outside)
    (dest / "stale/link").symlink_to(outside / "arch/precious")
    subprocess.run(["rm", "-r", str(dest / "etc")], check=True)
    (dest / "etc").symlink_to(outside)  # where the result has a directory

    export(world, dest)

    assert listing(dest) == ["bin", "bin/tool", "etc", "etc/arch"]
    assert listing(outside) == ["arch", "arch/precious"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("place", "outside")) == ["outside", "place"]


@pytest.mark.root
def test_what_is_mounted_there_is_not_removed_nor_is_anything_else(world: Any, dest: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/precious").touch()
    subprocess.run(["mount", "--bind", tmp_path / "data", dest / "stale/deep"], check=True)
    try:
        with pytest.raises(KnarrError, match="is mounted there"):
            export(world, dest)
        assert (dest / "etc/stale").exists()
    finally:
        subprocess.run(["umount", dest / "stale/deep"], check=True)
    assert listing(tmp_path / "data") == ["precious"]


def test_a_failed_export_removes_nothing(world: Any, dest: Path) -> None:
    with pytest.raises(UsageError, match="cannot overwrite"):
        world.export(
            "local", world.result("linux/amd64", "linux/arm64"), dest=str(dest), mode="delete", platform_split="false"
        )
    assert "stale/deep/file" in listing(dest)


def test_without_delete_everything_stays(world: Any, dest: Path) -> None:
    (dest / "bin/tool/x").unlink()
    (dest / "bin/tool").rmdir()
    world.export("local", world.result(), dest=str(dest), mode="copy")

    assert {"etc/arch", "etc/stale", "stale/deep/file"} <= set(listing(dest))


@pytest.mark.parametrize("dest", ["/", "//", "/etc", "/tmp/..", "/usr/", "HOME", "HOME/..", "LINK"])
def test_what_is_more_than_a_place_for_a_result_is_refused(dest: str, tmp_path: Path) -> None:
    home = tmp_path / "home/me"
    home.mkdir(parents=True)
    (tmp_path / "link").symlink_to("/")
    dest = dest.replace("HOME", str(home)).replace("LINK", str(tmp_path / "link"))

    with pytest.raises(UsageError, match="will not be emptied"):
        check_deletable(dest, {str(home): "your home directory"})


def test_knarrs_own_directory_is_spared(world: Any) -> None:
    with pytest.raises(UsageError, match="knarr's own directory"):
        export(world, world.root)
