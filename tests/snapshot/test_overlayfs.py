from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from knarr.snapshot.mounting import mounted
from knarr.snapshot.overlayfs import Overlayfs

pytestmark = pytest.mark.root


@pytest.fixture
def driver(tmp_path: Path) -> Overlayfs:
    return Overlayfs(tmp_path / "root")


def upper(driver: Overlayfs, name: str) -> Path:
    path = driver.upper(name)
    assert path is not None
    return path


def test_the_upper_directory_holds_this_snapshots_changes_only(driver: Overlayfs, at: Path) -> None:
    with mounted(driver.prepare("a", None), at) as tree:
        (tree / "dir").mkdir()
        (tree / "dir/old").write_text("x")
        (tree / "gone").touch()
    driver.commit("one", "a")
    with mounted(driver.prepare("b", "one"), at) as tree:
        (tree / "dir/new").touch()
        (tree / "gone").unlink()
        (tree / "dir/old").chmod(0o600)
    driver.commit("two", "b")
    names = sorted(
        os.path.relpath(os.path.join(here, n), upper(driver, "two"))
        for here, d, f in os.walk(upper(driver, "two"))
        for n in d + f
    )
    assert names == ["dir", "dir/new", "dir/old", "gone"]
    whiteout = (upper(driver, "two") / "gone").lstat()
    assert (stat.S_ISCHR(whiteout.st_mode), whiteout.st_rdev) == (True, 0)


def test_a_copied_up_file_holds_its_whole_content(driver: Overlayfs, at: Path) -> None:
    # With metacopy the upper directory would have the attributes and no data.
    with mounted(driver.prepare("a", None), at) as tree:
        (tree / "file").write_text("content")
    driver.commit("one", "a")
    with mounted(driver.prepare("b", "one"), at) as tree:
        os.chmod(tree / "file", 0o600)
    driver.commit("two", "b")
    assert (upper(driver, "two") / "file").read_text() == "content"


def test_layers_are_the_directories_topmost_first(driver: Overlayfs) -> None:
    parent = None
    for name in ("one", "two", "three"):
        driver.prepare("active", parent)
        driver.commit(name, "active")
        parent = name
    assert driver.layers("three") == (upper(driver, "three"), upper(driver, "two"), upper(driver, "one"))
    assert driver.layers(None) == ()


def test_three_hundred_layers_make_one_tree(driver: Overlayfs, at: Path) -> None:
    parent = None
    for number in range(300):
        driver.prepare("active", parent)
        (upper(driver, "active") / f"file{number}").touch()
        parent = f"layer{number}"
        driver.commit(parent, "active")
    with mounted(driver.prepare("top", parent), at) as tree:
        assert len(os.listdir(tree)) == 300
        (tree / "file7").unlink()
    with mounted(driver.mounts("top"), at) as tree:
        assert len(os.listdir(tree)) == 299


def test_a_mount_that_a_kill_ended_does_not_stop_the_next(driver: Overlayfs, at: Path) -> None:
    driver.prepare("a", None)
    driver.commit("one", "a")
    mounts = driver.prepare("b", "one")
    script = (
        "import sys, os\nfrom pathlib import Path\nfrom knarr.snapshot.mounting import attach\n"
        "from knarr.snapshot.namespace import private_mounts\nfrom knarr.snapshot.snapshotter import Mount\n"
        "private_mounts()\n"
        f"attach(({mounts[0]!r},), Path({os.fspath(at)!r}))\nos.kill(os.getpid(), 9)\n"
    )
    at.mkdir()
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -9
    assert not os.path.ismount(at)  # the namespace went with the process
    assert (driver.root / "2/work/work/incompat/volatile").exists()
    with mounted(driver.mounts("b"), at) as tree:
        (tree / "file").touch()


def test_the_work_directory_goes_with_the_commit(driver: Overlayfs, at: Path) -> None:
    driver.prepare("a", None)
    driver.commit("one", "a")
    with mounted(driver.prepare("b", "one"), at):
        pass
    driver.commit("two", "b")
    assert os.listdir(driver.root / "2") == ["fs"]


def test_a_snapshot_costs_little(driver: Overlayfs, at: Path) -> None:
    driver.prepare("a", None)
    driver.commit("0", "a")
    times = []
    for number in range(20):
        start = time.process_time()
        with mounted(driver.prepare("active", str(number)), at):
            pass
        driver.commit(str(number + 1), "active")
        times.append(time.process_time() - start)
    assert min(times) < 0.004  # own processor time; 1.2 ms by the clock of an idle machine
