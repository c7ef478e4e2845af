from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from knarr.errors import LayerInvalid
from knarr.layer import whiteout


@pytest.mark.parametrize(
    ("name", "hidden"), [("file", None), (".wh.file", "file"), (".wh..hidden", ".hidden"), (".whfile", None)]
)
def test_what_a_name_hides(name: str, hidden: str | None) -> None:
    assert whiteout.hidden_by(name) == hidden
    if hidden is not None:
        assert whiteout.marker(hidden) == name


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_a_whiteout_of_a_directory_itself_is_refused(name: str) -> None:
    with pytest.raises(LayerInvalid, match="names nothing"):
        whiteout.hidden_by(name)


@pytest.mark.root
def test_overlay_whiteouts_are_devices_or_marked_files(tmp_path: Path) -> None:
    device, marked, plain = (str(tmp_path / name) for name in ("device", "marked", "plain"))
    os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    for path in (marked, plain):
        Path(path).touch()
    os.setxattr(marked, "trusted.overlay.whiteout", b"")
    found = [whiteout.is_overlay_whiteout(os.lstat(path), path) for path in (device, marked, plain)]
    assert found == [True, True, False]


@pytest.mark.root
def test_opaque_directories_are_marked_y(tmp_path: Path) -> None:
    assert not whiteout.is_overlay_opaque(str(tmp_path))
    os.setxattr(tmp_path, "trusted.overlay.opaque", b"x")
    assert not whiteout.is_overlay_opaque(str(tmp_path))
    os.setxattr(tmp_path, "trusted.overlay.opaque", b"y")
    assert whiteout.is_overlay_opaque(str(tmp_path))
    assert not whiteout.overlay_redirect(str(tmp_path))
