from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.layer.lowers import Merged

pytestmark = pytest.mark.root


def layer(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(root.name)
    return root


def delete(root: Path, name: str) -> None:
    os.mknod(root / name, 0o020000, os.makedev(0, 0))


def merged(*layers: Path) -> Merged:
    return Merged([str(path) for path in layers])


def shown(directory: Merged, name: str) -> str:
    found = directory.child(name)
    assert found is not None
    return Path(found.path).read_text()


def test_the_topmost_file_shows(tmp_path: Path) -> None:
    top, bottom = layer(tmp_path / "top", "a"), layer(tmp_path / "bottom", "a", "b")
    assert shown(merged(top, bottom), "a") == "top"
    assert shown(merged(top, bottom), "b") == "bottom"
    assert merged(top, bottom).names() == {"a", "b"}


def test_directories_are_united(tmp_path: Path) -> None:
    top, bottom = layer(tmp_path / "top", "d/a"), layer(tmp_path / "bottom", "d/b")
    found = merged(top, bottom).child("d")
    assert found is not None
    assert found.merged is not None
    assert found.merged.names() == {"a", "b"}


def test_a_whiteout_hides_what_is_below(tmp_path: Path) -> None:
    top, bottom = layer(tmp_path / "top", "x"), layer(tmp_path / "bottom", "a", "d/b")
    delete(top, "a")
    delete(top, "d")
    assert merged(top, bottom).child("a") is None
    assert merged(top, bottom).names() == {"x"}


def test_a_file_in_between_cuts_a_directory_off(tmp_path: Path) -> None:
    top, middle, bottom = layer(tmp_path / "1", "d/a"), layer(tmp_path / "2", "d"), layer(tmp_path / "3", "d/b")
    found = merged(top, middle, bottom).child("d")
    assert found is not None
    assert found.merged is not None
    assert found.merged.names() == {"a"}


def test_an_opaque_directory_hides_what_is_below(tmp_path: Path) -> None:
    top, bottom = layer(tmp_path / "top", "d/a"), layer(tmp_path / "bottom", "d/b")
    os.setxattr(top / "d", "trusted.overlay.opaque", b"y")
    found = merged(top, bottom).child("d")
    assert found is not None
    assert found.merged is not None
    assert found.merged.names() == {"a"}
