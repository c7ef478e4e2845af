from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.errors import Unsupported
from knarr.snapshot.choose import choose, why_not_overlayfs
from knarr.snapshot.fuseoverlayfs import why_not
from knarr.snapshot.mounting import mounted
from knarr.snapshot.snapshotter import Mount

pytestmark = pytest.mark.root


@pytest.fixture
def on_overlay(tmp_path: Path) -> Path:
    """Options of an overlay mount: a file system that cannot be an overlay's upper directory."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    return tmp_path


def overlay(base: Path) -> Mount:
    return Mount("overlay", "o", (f"lowerdir={base}/lower", f"upperdir={base}/upper", f"workdir={base}/work"))


def test_overlayfs_where_it_works(tmp_path: Path) -> None:
    assert choose(tmp_path).name == "overlayfs"
    assert sorted(os.listdir(tmp_path)) == ["overlayfs-works"]  # the trial left nothing else


def test_another_where_overlay_cannot_be_mounted(on_overlay: Path, at: Path) -> None:
    with mounted((overlay(on_overlay),), at) as tree:
        assert choose(tree).name == ("native" if why_not(tree) else "fuse-overlayfs")
        assert "cannot mount overlay" in why_not_overlayfs(tree)
        with pytest.raises(Unsupported, match="overlayfs does not work below"):
            choose(tree, "overlayfs")


def test_what_is_wanted_is_used(tmp_path: Path) -> None:
    assert choose(tmp_path, "native").name == "native"
    assert choose(tmp_path, "overlayfs").name == "overlayfs"


def test_an_unknown_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="zfs is not known"):
        choose(tmp_path, "zfs")


def test_fuse_overlayfs_without_its_device_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("knarr.snapshot.fuseoverlayfs._PLACES", ())
    with pytest.raises(Unsupported, match="fuse-overlayfs is not installed"):
        choose(tmp_path, "fuse-overlayfs")
