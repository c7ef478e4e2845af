"""`type=local` and `type=tar`: a result's files."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import KnarrError, UsageError
from knarr.record import replace


def listing(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir())


def first_layer(result: Any) -> Path:
    return Path(result.records[0]) / "1"


def test_files_land_in_the_directory(world: Any, tmp_path: Path) -> None:
    world.export("local", world.result(), dest=str(tmp_path / "out"))

    assert listing(tmp_path / "out") == ["bin/tool", "etc/arch"]


def test_several_platforms_have_a_directory_each(world: Any, tmp_path: Path) -> None:
    world.export("local", world.result("linux/amd64", "linux/arm/v7"), dest=str(tmp_path / "out"))

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["linux_amd64", "linux_arm_v7"]
    assert (tmp_path / "out/linux_arm_v7/etc/arch").read_text() == "linux/arm/v7"


def test_platforms_laid_together_must_not_claim_the_same_file(world: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot overwrite .* from linux/amd64 with linux/arm64"):
        world.export(
            "local", world.result("linux/amd64", "linux/arm64"), dest=str(tmp_path / "out"), platform_split="false"
        )


def test_modes_times_and_links_stay(world: Any, tmp_path: Path) -> None:
    result = world.result()
    tree = first_layer(result)
    os.chmod(tree / "bin/tool", 0o4755)
    os.utime(tree / "bin/tool", ns=(1, 1_234_567_891))
    os.link(tree / "bin/tool", tree / "bin/other")
    os.symlink("../etc/arch", tree / "bin/link")
    os.chmod(tree / "etc", 0o500)
    os.utime(tree / "etc", ns=(5, 5))

    world.export("local", result, dest=str(tmp_path / "out"))

    out = tmp_path / "out"
    tool = (out / "bin/tool").stat()
    assert stat.S_IMODE(tool.st_mode) == 0o4755
    assert tool.st_mtime_ns == 1_234_567_891
    assert (out / "bin/other").stat().st_ino == tool.st_ino
    assert os.readlink(out / "bin/link") == "../etc/arch"
    assert stat.S_IMODE((out / "etc").stat().st_mode) == 0o500
    assert (out / "etc").stat().st_mtime_ns == 5
    assert (tool.st_uid, tool.st_gid) == (os.geteuid(), os.getegid())


def test_what_is_there_is_replaced_or_left(world: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "bin").mkdir(parents=True)
    (out / "bin/tool").write_text("old")
    (out / "mine").write_text("mine")

    world.export("local", world.result(), dest=str(out))

    assert (out / "bin/tool").read_text() == "#!/bin/sh\n"
    assert (out / "mine").read_text() == "mine"


def test_nothing_is_written_through_a_symlink(world: Any, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (outside / "tool").write_text("precious")
    os.symlink(outside, out / "bin")
    (out / "etc").mkdir()
    os.symlink(outside / "tool", out / "etc/arch")

    world.export("local", world.result(), dest=str(out))

    assert (outside / "tool").read_text() == "precious"
    assert listing(outside) == ["tool"]
    assert (out / "bin/tool").read_text() == "#!/bin/sh\n"
    assert not (out / "bin").is_symlink()


def test_a_directory_in_the_place_of_a_file_is_not_removed(world: Any, tmp_path: Path) -> None:
    (tmp_path / "out/bin/tool").mkdir(parents=True)

    with pytest.raises(KnarrError, match="is a directory here and a file in the result"):
        world.export("local", world.result(), dest=str(tmp_path / "out"))


def test_a_place_that_cannot_be_written_is_told(world: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(KnarrError, match="file"):
        world.export("local", world.result(), dest=str(tmp_path / "file"))


def test_source_date_epoch_is_the_time_of_all_files(world: Any, tmp_path: Path) -> None:
    world.settings = replace(world.settings, source_date_epoch=77)

    world.export("local", world.result(), dest=str(tmp_path / "out"))

    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {77}


def names(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_a_tar_has_the_files_in_order(world: Any, tmp_path: Path) -> None:
    world.export("tar", world.result(), dest=str(tmp_path / "out.tar"))

    assert names(tmp_path / "out.tar") == ["bin", "bin/tool", "etc", "etc/arch"]


def test_a_tar_of_several_platforms_has_a_directory_for_each(world: Any, tmp_path: Path) -> None:
    result = world.result("linux/amd64", "linux/arm64")
    os.link(first_layer(result) / "bin/tool", first_layer(result) / "bin/zz")

    world.export("tar", result, dest=str(tmp_path / "out.tar"))

    found = names(tmp_path / "out.tar")
    assert found[:4] == ["linux_amd64", "linux_amd64/bin", "linux_amd64/bin/tool", "linux_amd64/bin/zz"]
    assert "linux_arm64/etc/arch" in found
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getmember("linux_amd64/bin/zz").linkname == "linux_amd64/bin/tool"


def test_a_tar_goes_to_standard_output(world: Any, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    world.export("tar", world.result(), dest="-")

    with tarfile.open(fileobj=io.BytesIO(capfdbinary.readouterr().out)) as tar:
        assert "etc/arch" in tar.getnames()


def test_a_failed_export_leaves_the_old_file(world: Any, tmp_path: Path) -> None:
    (tmp_path / "out.tar").write_text("old")
    result = world.result("linux/amd64", "linux/arm64")

    with pytest.raises(UsageError, match="cannot overwrite"):
        world.export("tar", result, dest=str(tmp_path / "out.tar"), platform_split="false")

    assert (tmp_path / "out.tar").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if "part" in path.name) == []
