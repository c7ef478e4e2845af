"""Single files of a tree: what is lent, and nothing else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from knarr.engine import treefiles
from knarr.errors import KnarrError, NotFound, UsageError
from knarr.ops.copytree import Tree
from knarr.patterns import Matcher


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub/deep").mkdir(parents=True)
    for name in ("a.txt", "b.md", "sub/c.txt", "sub/deep/d"):
        (root / name).write_text(name)
    (tmp_path / "outside").write_text("outside")
    (root / "up").symlink_to("../../outside")
    (root / "absolute").symlink_to("/a.txt")
    return root


@pytest.mark.parametrize("path", ["a.txt", "/a.txt", "sub/../a.txt", "../../a.txt", "absolute"])
def test_a_file_is_read_wherever_its_path_leads_inside_the_tree(root: Path, path: str) -> None:
    assert treefiles.read(Tree(str(root)), path) == b"a.txt"


@pytest.mark.parametrize("path", ["up", "../outside", "nosuch", "a.txt/x", "sub/nosuch/x"])
def test_nothing_is_read_outside(root: Path, path: str) -> None:
    with pytest.raises(KnarrError) as caught:
        treefiles.read(Tree(str(root)), path)
    assert f"open {path}: " in caught.value.message


def test_a_part_of_a_file_is_read(root: Path) -> None:
    tree = Tree(str(root))
    assert treefiles.read(tree, "a.txt", offset=2, length=2) == b"tx"
    assert treefiles.read(tree, "a.txt", offset=100, length=2) == b""
    assert treefiles.read(tree, "a.txt", offset=100) == b""


def test_what_is_no_regular_file_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(KnarrError, match="fifo is not a regular file"):
        treefiles.read(Tree(str(root)), "fifo")
    with pytest.raises(KnarrError, match="sub is not a regular file"):
        treefiles.read(Tree(str(root)), "sub")


def test_a_socket_can_be_described_and_not_read(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "s"))
    with pytest.raises(KnarrError, match="open s: "):
        treefiles.read(Tree(str(root)), "s")
    assert treefiles.status(Tree(str(root)), "s").path == "s"


def test_a_file_too_large_for_an_answer_is_read_in_parts(root: Path) -> None:
    with open(root / "large", "wb") as file:
        file.truncate(treefiles.MAX_BYTES + 1)
    with pytest.raises(KnarrError, match="too many for one answer") as caught:
        treefiles.read(Tree(str(root)), "large")
    assert "ranges" in caught.value.hint
    assert treefiles.read(Tree(str(root)), "large", offset=treefiles.MAX_BYTES) == b"\0"


def test_a_directory_is_listed_by_name(root: Path) -> None:
    found = treefiles.entries(Tree(str(root)), "/")
    assert [status.path for status in found] == ["a.txt", "absolute", "b.md", "sub", "up"]
    assert [status.link for status in found if status.link] == ["/a.txt", "../../outside"]
    assert [status.path for status in treefiles.entries(Tree(str(root)), ".", pattern="*.txt")] == ["a.txt"]


def test_a_malformed_pattern_is_refused(root: Path) -> None:
    with pytest.raises(UsageError):
        treefiles.entries(Tree(str(root)), ".", pattern="[")


def test_what_is_hidden_is_not_there(root: Path) -> None:
    (root / "to-hidden").symlink_to("b.md")
    tree = Tree(str(root), Matcher(["*.md", "sub", "!sub/deep/d"]))
    for path in ("b.md", "to-hidden", "sub/c.txt"):
        with pytest.raises(NotFound):
            treefiles.read(tree, path)
    assert treefiles.read(tree, "sub/deep/d") == b"sub/deep/d"
    assert "b.md" not in [status.path for status in treefiles.entries(tree, "/")]


def test_only_what_was_asked_for_is_lent(root: Path) -> None:
    tree = Tree(str(root), only=("sub/deep", "*.md"))
    assert treefiles.read(tree, "b.md") == b"b.md"
    assert treefiles.read(tree, "sub/deep/d") == b"sub/deep/d"
    with pytest.raises(NotFound):
        treefiles.read(tree, "a.txt")
    assert [status.path for status in treefiles.entries(tree, "sub")] == ["deep"]


def test_owners_of_a_lent_directory_do_not_count(root: Path) -> None:
    status = treefiles.status(Tree(str(root), zero_owner=True), "/a.txt")
    assert (status.uid, status.gid, status.size, status.mode & 0o170000) == (0, 0, 5, 0o100000)
