from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.errors import LayerInvalid
from knarr.layer.parents import Parents, remove_tree


def test_directories_are_made_and_remembered(root: Path) -> None:
    parents = Parents(str(root))
    deep = parents.get("a/b")
    assert (deep.where, deep.path) == ("a/b/", f"{root}/a/b/")
    assert parents.get("a/b") is deep
    assert parents.get("").where == ""


def test_names_through_a_symlink_lead_to_the_same_directory(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("/real")
    parents = Parents(str(root))
    parents.get("link").made.add("x")
    assert parents.get("real").made == {"x"}


def test_a_replaced_symlink_is_resolved_anew(root: Path) -> None:
    (root / "one").mkdir()
    (root / "link").symlink_to("one")
    parents = Parents(str(root))
    assert parents.get("link").where == "one/"
    parents.place(parents.get(""), "link", lambda: os.mkdir(root / "link"))
    assert parents.get("link").where == "link/"


def test_the_root_itself_may_be_reached_through_a_symlink(root: Path) -> None:
    (root.parent / "alias").symlink_to(root)
    assert Parents(str(root.parent / "alias")).get("a").path == f"{root}/a/"


def test_finding_makes_nothing(root: Path) -> None:
    (root / "file").touch()
    parents = Parents(str(root))
    assert parents.find("nothing/there") is None
    assert parents.find("file") is None
    assert os.listdir(root) == ["file"]
    with pytest.raises(LayerInvalid, match="/file: is not a directory"):
        parents.get("file/x")


def test_removing_a_tree_follows_nothing(root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/link").symlink_to(outside)
    (root / "a/file").touch()
    remove_tree(str(root / "a"))
    assert os.listdir(root) == []
    assert os.listdir(outside) == ["kept"]
