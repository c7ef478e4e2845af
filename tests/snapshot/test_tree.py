from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.snapshot import tree


def facts(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything a layer could hold of each entry."""
    found = {}
    for here, directories, files in os.walk(root):
        for name in (".", *directories, *files):
            path = Path(here, name)
            info = path.lstat()
            kind = stat.S_IFMT(info.st_mode)
            content = path.read_bytes() if kind == stat.S_IFREG else b""
            target = os.readlink(path) if kind == stat.S_IFLNK else ""
            xattrs = {
                key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
            }
            about = (info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, info.st_rdev)
            found[os.path.relpath(path, root)] = (*about, content, target, tuple(sorted(xattrs.items())))
    return found


@pytest.mark.root
def test_a_clone_has_everything_of_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "dir").mkdir(parents=True)
    target.mkdir()
    (source / "dir/file").write_text("x" * 5000)
    os.setxattr(source / "dir/file", "user.note", b"kept")
    os.link(source / "dir/file", source / "hard")
    os.symlink("dir/file", source / "soft")
    os.mkfifo(source / "pipe")
    os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(source / "soft", 5, 6, follow_symlinks=False)
    os.chown(source / "dir/file", 7, 8)
    os.chmod(source / "dir/file", 0o6755)
    os.chmod(source / "dir", 0o1500)
    os.utime(source / "dir", ns=(1, 1_234_567_891))
    tree.clone(os.fspath(source), os.fspath(target))
    assert facts(target) == facts(source)
    assert (target / "hard").samefile(target / "dir/file")


def test_holes_stay_holes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with open(tmp_path / "a/sparse", "wb") as file:
        file.seek(1 << 24)
        file.write(b"in the middle")
        file.truncate(1 << 26)
    tree.clone(os.fspath(tmp_path / "a"), os.fspath(tmp_path / "b"))
    assert (tmp_path / "b/sparse").read_bytes() == (tmp_path / "a/sparse").read_bytes()
    assert (tmp_path / "b/sparse").stat().st_blocks * 512 < 1 << 20


@given(st.binary(max_size=300_000), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_data_is_copied_exactly(tmp_path_factory: pytest.TempPathFactory, data: bytes, many: int) -> None:
    base = tmp_path_factory.mktemp("clone")
    (base / "a").mkdir()
    (base / "b").mkdir()
    (base / "a/file").write_bytes(data * many)
    tree.clone(os.fspath(base / "a"), os.fspath(base / "b"))
    assert (base / "b/file").read_bytes() == data * many


def test_a_check_that_raises_stops_a_clone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/file").touch()

    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        tree.clone(os.fspath(tmp_path / "a"), os.fspath(tmp_path / "b"), check=stop)
    assert not (tmp_path / "b/file").exists()


def test_remove_takes_closed_directories_and_leaves_what_symlinks_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (tmp_path / "tree/closed/deep").mkdir(parents=True)
    os.symlink(outside, tmp_path / "tree/link")
    (tmp_path / "tree/closed").chmod(0)
    tree.remove(os.fspath(tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()
    assert (outside / "precious").exists()
    tree.remove(os.fspath(tmp_path / "tree"))  # nothing there: no complaint


def test_remove_takes_a_tree_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    tree.remove(os.fspath(tmp_path / "deep"))
    assert os.listdir(tmp_path) == []


def test_usage_counts_a_file_of_two_names_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * 100_000)
    before = tree.usage(os.fspath(tmp_path))
    os.link(tmp_path / "one", tmp_path / "two")
    assert tree.usage(os.fspath(tmp_path)) == before
    assert before.inodes == 2
    assert before.size_bytes >= 100_000


def test_removing_a_wide_tree_is_quick(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"file{number}").touch()
    start = time.perf_counter()
    tree.remove(os.fspath(tmp_path))
    assert time.perf_counter() - start < 2
