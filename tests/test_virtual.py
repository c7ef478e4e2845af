from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr import virtual


@pytest.fixture
def file(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "file"
    path.write_text("x")
    try:
        os.setxattr(path, "user.probe", b"1")
    except OSError:
        pytest.skip("this file system keeps no user attributes")
    yield str(path)
    virtual.end()


def seen(path: str) -> os.stat_result:
    return virtual.seen(path, os.lstat(path))


def test_nothing_is_noted_before_it_begins(file: str) -> None:
    os.setxattr(file, virtual.NOTE, b"7 8 100644 0")
    assert seen(file) == os.lstat(file)


def test_an_owner_that_is_noted_is_seen_and_not_given(file: str) -> None:
    virtual.begin(owners=True)
    virtual.chown(file, 1000, 2000)
    virtual.chown(file, -1, 3000)
    assert (seen(file).st_uid, seen(file).st_gid) == (1000, 3000)
    assert os.lstat(file).st_uid == os.geteuid()
    assert seen(file).st_mtime_ns == os.lstat(file).st_mtime_ns


def test_what_has_no_note_is_roots(file: str) -> None:
    virtual.begin(owners=True)
    assert (seen(file).st_uid, seen(file).st_gid) == (0, 0)


def test_a_change_of_owner_takes_setuid_away_as_the_kernel_does(file: str) -> None:
    virtual.begin(owners=True)
    os.chmod(file, 0o4755)
    virtual.chown(file, 5, 5)
    assert stat.S_IMODE(seen(file).st_mode) == 0o755


def test_an_owner_of_a_symlink_is_refused_with_its_name(file: str) -> None:
    virtual.begin(owners=True)
    os.symlink("x", file + ".link")
    virtual.chown(file + ".link", 0, 0)
    with pytest.raises(PermissionError, match=r"the owner 5:5 of a symlink.*file\.link"):
        virtual.chown(file + ".link", 5, 5)


def test_a_device_is_an_empty_file_with_a_note(tmp_path: Path, file: str) -> None:
    virtual.begin()
    path = str(tmp_path / "null")
    virtual.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    virtual.chmod(path, 0o666)
    assert seen(path).st_mode == stat.S_IFCHR | 0o666
    assert seen(path).st_rdev == os.makedev(1, 3)
    assert stat.S_ISREG(os.lstat(path).st_mode)
    os.link(path, path + "2")
    assert stat.S_ISCHR(seen(path + "2").st_mode)


def test_a_mode_that_locks_its_owner_out_is_noted(file: str) -> None:
    virtual.begin(owners=True, modes=True)
    virtual.chmod(file, 0)
    assert stat.S_IMODE(seen(file).st_mode) == 0
    assert stat.S_IMODE(os.lstat(file).st_mode) == 0o600
    os.chmod(file, 0o755)  # by a step, which knows nothing of notes
    assert stat.S_IMODE(seen(file).st_mode) == 0o755


def test_a_note_of_somebody_else_says_nothing(file: str) -> None:
    virtual.begin(owners=True)
    for text in (b"", b"a b c d", b"1 2 3", b"\xff 0 0 0"):
        os.setxattr(file, virtual.NOTE, text)
        assert seen(file).st_uid == 0
