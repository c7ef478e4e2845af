"""skopeo copies the image, umoci unpacks it, runc and crun run it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from .conftest import Shipped, run

pytestmark = [pytest.mark.root, pytest.mark.system]


# crun of Debian 12 refuses hybrid cgroups as long as it sees the empty tree of version 2.
_WITHOUT_HYBRID = ("unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', "sh")


@pytest.fixture(scope="session")
def bundle(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as umoci makes a runtime's bundle of it."""
    place = tmp_path_factory.mktemp("umoci")
    run("skopeo", "--insecure-policy", "copy", "-q", f"oci-archive:{shipped.oci}", f"oci:{place / 'layout'}:v1")
    run("umoci", "unpack", "--image", f"{place / 'layout'}:v1", place / "bundle")
    return place / "bundle"


@pytest.fixture(scope="session")
def unpacked(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own type=tar output, unpacked by tar(1)."""
    place = tmp_path_factory.mktemp("unpacked")
    run("tar", "--numeric-owner", "-xpf", shipped.tar, "-C", place)
    return place


@pytest.mark.parametrize("runtime", [("runc",), (*_WITHOUT_HYBRID, "crun")], ids=["runc", "crun"])
def test_a_runtime_runs_what_umoci_unpacked(shipped: Shipped, bundle: Path, runtime: tuple[str, ...]) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["terminal"] = False
    (bundle / "config.json").write_text(json.dumps(config))
    assert run(*runtime, "run", "--bundle", bundle, f"knarr-interop-{os.getpid()}") == shipped.said


def test_our_tar_output_has_the_files_that_umoci_unpacked(unpacked: Path, bundle: Path) -> None:
    theirs = contents(bundle / "rootfs")
    assert theirs.pop("vol")  # umoci makes the volumes' directories
    assert theirs == contents(unpacked)


def test_our_local_output_has_them_too_but_all_belong_to_who_builds(shipped: Shipped, unpacked: Path) -> None:
    ours = {path: (what[0], what[4]) for path, what in contents(shipped.tree).items()}
    assert ours == {path: (what[0], what[4]) for path, what in contents(unpacked).items()}
    assert {what[1:3] for what in contents(shipped.tree).values()} == {(0, 0)}


def test_what_the_files_are(unpacked: Path) -> None:
    found = contents(unpacked)
    assert found["copied/sub/b"][:3] == (stat.S_IFREG | 0o640, 7, 1)
    assert found["copied"][:3] == (stat.S_IFDIR | 0o640, 7, 1)
    assert found["kept/ü/a"][:4] == (stat.S_IFREG | 0o755, 0, 0, 1577836800)
    assert found["unpacked/member"][:4] == (stat.S_IFREG | 0o640, 55, 66, 1577836800)
    assert found["data/two"][:3] == (stat.S_IFREG | 0o4755, 0, 0)
    assert found["work"][:3] == (stat.S_IFDIR | 0o755, 1234, 1235)
    assert "vol" not in found
    assert os.lstat(unpacked / "data/two").st_ino == os.lstat(unpacked / "data/hard").st_ino


def contents(root: Path) -> dict[str, tuple[Any, ...]]:
    """(mode, uid, gid, time, what is in it) by path; the time of a directory is not compared: nobody keeps it."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            what = os.readlink(path)
        elif path.is_file():
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = ""
        time = None if path.is_dir() and not path.is_symlink() else int(status.st_mtime)
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, time, what)
    return found


def test_umoci_reads_the_history_and_the_layers(shipped: Shipped, bundle: Path) -> None:
    told = json.loads(run("umoci", "stat", "--json", "--image", f"{bundle.parent / 'layout'}:v1"))
    steps = [entry["created_by"] for entry in told["history"] if not entry.get("empty_layer")]
    assert len(steps) == len([entry for entry in told["history"] if entry.get("layer")]) == 8
    assert steps[-1] == "WORKDIR /work"
