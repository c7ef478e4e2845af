"""What all drivers promise."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.errors import ContentError
from knarr.snapshot.driver import Driver
from knarr.snapshot.fuseoverlayfs import FuseOverlayfs, program
from knarr.snapshot.mounting import mounted
from knarr.snapshot.native import Native
from knarr.snapshot.overlayfs import Overlayfs

pytestmark = pytest.mark.root


@pytest.fixture(params=[Overlayfs, FuseOverlayfs, Native], ids=["overlayfs", "fuse-overlayfs", "native"])
def kind(request: pytest.FixtureRequest) -> type[Driver]:
    if request.param is FuseOverlayfs and not program():
        pytest.skip("fuse-overlayfs is not installed")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def driver(kind: type[Driver], tmp_path: Path) -> Driver:
    return kind(tmp_path / "root")


def grow(driver: Driver, at: Path, name: str, parent: str | None, change: Callable[[Path], object]) -> None:
    """Commit `name`: the parent's tree with a change."""
    with mounted(driver.prepare(f"{name}-active", parent), at) as tree:
        change(tree)
    driver.commit(name, f"{name}-active")


def test_a_child_shows_its_parents_files_and_its_own(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: (tree / "a").write_text("1"))
    grow(driver, at, "two", "one", lambda tree: (tree / "b").write_text("2"))
    grow(driver, at, "three", "two", lambda tree: (tree / "a").unlink())
    with mounted(driver.view("look", "two"), at) as tree:
        assert sorted(os.listdir(tree)) == ["a", "b"]
        with pytest.raises(OSError, match="Read-only"):
            (tree / "c").touch()
    with mounted(driver.view("look again", "three"), at) as tree:
        assert os.listdir(tree) == ["b"]


def test_a_committed_parent_is_not_changed_by_its_child(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: (tree / "a").write_text("1"))
    grow(driver, at, "two", "one", lambda tree: (tree / "a").write_text("changed"))
    with mounted(driver.view("look", "one"), at) as tree:
        assert (tree / "a").read_text() == "1"


def test_the_root_directory_keeps_its_attributes(driver: Driver, at: Path) -> None:
    def change(tree: Path) -> None:
        (tree / "x").touch()
        os.chown(tree, 12, 34)
        os.chmod(tree, 0o1711)
        os.setxattr(tree, "user.note", b"kept")
        os.utime(tree, ns=(5, 1_000_000_007))

    grow(driver, at, "one", None, change)
    with mounted(driver.prepare("two", "one"), at) as tree:
        info = tree.stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (12, 34, 0o1711)
        assert info.st_mtime_ns == 1_000_000_007
        assert os.getxattr(tree, "user.note") == b"kept"


def test_only_a_committed_snapshot_can_be_a_parent(driver: Driver) -> None:
    driver.prepare("active", None)
    with pytest.raises(ContentError, match="still active"):
        driver.prepare("child", "active")
    with pytest.raises(ContentError, match="none of this name"):
        driver.prepare("child", "nobody")


def test_a_name_is_given_once(driver: Driver) -> None:
    driver.prepare("name", None)
    with pytest.raises(ContentError, match="exists"):
        driver.prepare("name", None)
    with pytest.raises(ContentError, match="exists"):
        driver.view("name", None)


def test_committing_a_name_again_drops_the_second_tree(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: (tree / "first").touch())
    grow(driver, at, "one", None, lambda tree: (tree / "second").touch())
    with mounted(driver.view("look", "one"), at) as tree:
        assert os.listdir(tree) == ["first"]
    assert driver.stat("one-active") is None
    driver.remove("look")
    assert len([name for name in os.listdir(driver.root) if name.isdigit()]) == 1


def test_a_parent_cannot_be_removed_before_its_children(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: None)
    grow(driver, at, "two", "one", lambda tree: None)
    with pytest.raises(ContentError, match="others stand on it"):
        driver.remove("one")
    driver.remove("two")
    driver.remove("one")
    driver.remove("one")  # nothing there: no complaint
    assert driver.walk() == ()
    assert not [name for name in os.listdir(driver.root) if name.isdigit()]


def test_an_active_snapshot_can_be_mounted_again(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: None)
    with mounted(driver.prepare("two", "one"), at) as tree:
        (tree / "a").touch()
    with mounted(driver.mounts("two"), at) as tree:
        assert os.listdir(tree) == ["a"]


def test_what_is_known_of_a_snapshot(driver: Driver, at: Path) -> None:
    before = time.time_ns()
    grow(driver, at, "one", None, lambda tree: (tree / "a").write_bytes(b"x" * 50_000))
    driver.prepare("two", "one")
    assert [(i.name, i.parent, i.committed) for i in driver.walk()] == [("one", None, True), ("two", "one", False)]
    info = driver.stat("one")
    assert info is not None
    assert before <= info.created_ns <= time.time_ns()
    assert driver.stat("three") is None
    assert driver.usage("one").size_bytes >= 50_000
    assert driver.usage("one") == driver.usage("one")


def test_it_opens_again_after_close(driver: Driver) -> None:
    driver.prepare("left", None)
    driver.close()
    assert driver.stat("left") is not None
    assert driver.sweep() == 1  # closing gave up the claim
    assert driver.stat("left") is None


def test_sweep_spares_what_a_living_process_has(driver: Driver, kind: type[Driver]) -> None:
    driver.prepare("mine", None)
    other = kind(driver.root)
    assert other.sweep() == 0
    assert other.stat("mine") is not None


KILLED = """
import os, sys
from pathlib import Path
from knarr.snapshot.mounting import attach
from knarr.snapshot.fuseoverlayfs import FuseOverlayfs
from knarr.snapshot.native import Native
from knarr.snapshot.overlayfs import Overlayfs
driver = {"overlayfs": Overlayfs, "fuse-overlayfs": FuseOverlayfs, "native": Native}[sys.argv[1]](Path(sys.argv[2]))
attach(driver.prepare("left", "base"), Path(sys.argv[3]))
Path(sys.argv[3], "file").write_text("x")
print("ready", flush=True)
sys.stdin.read()
"""


def test_sweep_takes_what_a_killed_process_left_and_its_mounts(driver: Driver, at: Path) -> None:
    grow(driver, at, "base", None, lambda tree: (tree / "a").touch())
    at.mkdir()
    argv = [sys.executable, "-c", KILLED, driver.name, driver.root, at]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert driver.sweep() == 0
        process.kill()
    assert (at / "file").exists()
    assert driver.sweep() == 1
    assert os.listdir(at) == []
    assert [info.name for info in driver.walk()] == ["base"]
    assert len([name for name in os.listdir(driver.root) if name.isdigit()]) == 1
    assert len(os.listdir(driver.root / "owners")) == 1


def test_a_power_cut_costs_what_was_not_synced_and_all_on_top(driver: Driver, at: Path, kind: type[Driver]) -> None:
    for name, parent in (("safe", None), ("doubtful", "safe"), ("above", "doubtful")):
        grow(driver, at, name, parent, lambda tree: None)
    driver.close()
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        database.execute("UPDATE snapshot SET boot = 'an earlier one'")
        database.execute("UPDATE snapshot SET synced = name IN ('safe', 'above')")
        database.execute("UPDATE checked SET boot = 'an earlier one'")
    later = kind(driver.root)
    assert [info.name for info in later.walk()] == ["safe"]
    assert later.sweep() == 2


def test_a_torn_database_is_replaced_and_old_trees_are_not_met_again(
    driver: Driver, at: Path, kind: type[Driver]
) -> None:
    grow(driver, at, "one", None, lambda tree: (tree / "old").touch())
    driver.close()
    (driver.root / "snapshots.db").write_bytes(b"this is not a database, it was one before the power went" * 99)
    later = kind(driver.root)
    assert later.walk() == ()
    grow(later, at, "one", None, lambda tree: (tree / "new").touch())
    with mounted(later.view("look", "one"), at) as tree:
        assert os.listdir(tree) == ["new"]


def test_closing_notes_that_what_was_committed_is_on_the_disk(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: None)
    driver.close()
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        assert database.execute("SELECT synced FROM snapshot").fetchall() == [(1,)]


def test_closing_soon_again_leaves_the_sync_to_a_later_close(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: None)
    driver.close()
    grow(driver, at, "two", None, lambda tree: None)
    driver.close()
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        assert database.execute("SELECT name, synced FROM snapshot").fetchall() == [("one", 1), ("two", 0)]
        database.execute("UPDATE snapshot SET created_ns = created_ns - 31000000000")
    grow(driver, at, "three", None, lambda tree: None)
    driver.close()
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        assert database.execute("SELECT DISTINCT synced FROM snapshot").fetchall() == [(1,)]


def test_sweep_notes_that_old_snapshots_are_on_the_disk(driver: Driver, at: Path) -> None:
    grow(driver, at, "one", None, lambda tree: None)
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        database.execute("UPDATE snapshot SET created_ns = created_ns - 120000000000")
    driver.sweep()
    with sqlite3.connect(driver.root / "snapshots.db") as database:
        assert database.execute("SELECT synced FROM snapshot").fetchall() == [(1,)]


RACER = """
import sys
from pathlib import Path
from knarr.errors import ContentError
from knarr.snapshot.fuseoverlayfs import FuseOverlayfs
from knarr.snapshot.native import Native
from knarr.snapshot.overlayfs import Overlayfs
driver = {"overlayfs": Overlayfs, "fuse-overlayfs": FuseOverlayfs, "native": Native}[sys.argv[1]](Path(sys.argv[2]))
me, parent = sys.argv[3], None
for number in range(20):
    active = f"{me}-{number}"
    driver.prepare(active, parent)
    driver.commit(f"shared-{number}", active)
    parent = f"shared-{number}"
    driver.prepare(f"{me}-dropped-{number}", parent)
    driver.remove(f"{me}-dropped-{number}")
    driver.sweep()
"""


def test_many_processes_on_one_root(driver: Driver) -> None:
    argv = [sys.executable, "-c", RACER, driver.name, driver.root]
    racers = [subprocess.Popen([*argv, str(n)], stderr=subprocess.PIPE) for n in range(4)]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors.decode()
    driver.sweep()
    assert [info.name for info in driver.walk()] == [f"shared-{n}" for n in range(20)]
    assert len([name for name in os.listdir(driver.root) if name.isdigit()]) == 20
