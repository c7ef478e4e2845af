from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.layer.samefile import in_layer, in_tree, kept_xattrs, same

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep


def pair(tmp_path: Path, *, content: str = "equal", mtime_ns: int = 10**9) -> tuple[Path, Path]:
    paths = (tmp_path / "a", tmp_path / "b")
    for path in paths:
        path.write_text(content)
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return paths


def equal(a: Path, b: Path) -> bool:
    return same(os.lstat(a), str(a), os.lstat(b), str(b))


def test_equal_files(tmp_path: Path) -> None:
    assert equal(*pair(tmp_path))


CHANGES: dict[str, Callable[[Path], object]] = {
    "mode": lambda path: path.chmod(0o600),
    "time": lambda path: os.utime(path, ns=(0, 2 * 10**9)),
    "size": lambda path: path.write_text("longer text") and os.utime(path, ns=(0, 10**9)),
    "attribute": lambda path: os.setxattr(path, "security.capability", CAPABILITY),
    "content": lambda path: path.write_text("EQUAL") and os.utime(path, ns=(0, 10**9)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_counts(tmp_path: Path, change: str) -> None:
    a, b = pair(tmp_path)
    CHANGES[change](b)
    assert not equal(a, b)


def test_a_time_with_a_fraction_settles_it(tmp_path: Path) -> None:
    a, b = pair(tmp_path, mtime_ns=1_000_000_001)
    b.write_text("EQUAL")
    os.utime(b, ns=(0, 1_000_000_001))
    assert equal(a, b)  # as containerd: content is read only where a tar may have cut the time


def test_directories_are_compared_without_time_and_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "b/new").touch()
    os.utime(tmp_path / "b", (5, 5))
    assert equal(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b").chmod(0o711)
    assert not equal(tmp_path / "a", tmp_path / "b")


def test_links_are_compared_by_where_they_lead(tmp_path: Path) -> None:
    for name, target in (("a", "one"), ("b", "two")):
        (tmp_path / name).symlink_to(target)
        os.utime(tmp_path / name, (1, 1), follow_symlinks=False)
    assert not equal(tmp_path / "a", tmp_path / "b")
    assert equal(tmp_path / "a", tmp_path / "a")


def test_which_attributes_are_kept(tmp_path: Path) -> None:
    names = ("security.capability", "user.a", "user.overlay.opaque", "trusted.a", "security.selinux")
    assert [name for name in names if in_layer(name)] == ["security.capability"]
    assert [name for name in names if in_tree(name)] == ["security.capability", "user.a"]
    a, _ = pair(tmp_path)
    os.setxattr(a, "user.a", b"1")
    os.setxattr(a, "user.overlay.x", b"1")
    assert kept_xattrs(str(a)) == {}
    assert kept_xattrs(str(a), in_tree) == {"user.a": b"1"}


def test_files_of_different_origin_are_told_apart_by_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for path, text, time_ns in ((a, "1", 1_500_000_000), (b, "2", 1_500_000_000)):
        path.write_text(text)
        os.utime(path, ns=(0, time_ns))

    def alike(**how: bool) -> bool:
        return same(a.stat(), str(a), b.stat(), str(b), **how)

    assert alike()  # the same moment: as BuildKit has it
    assert not alike(by_content=True)
    b.write_text("1")
    for time_ns, expected in ((1_500_000_000, True), (1_000_000_000, True), (1_400_000_000, False)):
        os.utime(b, ns=(0, time_ns))  # the second is what a tar leaves of the first
        assert alike(by_content=True) is expected
