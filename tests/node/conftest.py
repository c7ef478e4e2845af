"""The node image for two platforms, made once by `knarr node build`, and root directories of it that umoci unpacked."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from knarr.snapshot.namespace import private_mounts
from tests.node import podspec
from tests.node.container import Node

BUILD_S = 560  # of both platforms, where nothing is in the cache


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> bool:
    """What these tests mount is nobody else's."""
    return private_mounts()


@pytest.fixture(scope="session")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages, kept beside pytest's own temporary directories between runs."""
    cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-node"
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture(scope="session")
def node_images(node_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for what is made of the image: once for all xdist workers, who wait for each other here."""
    own = tmp_path_factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "node-images"
    place.mkdir(exist_ok=True)
    with open(node_cache / "lock", "w") as lock:  # apt has one state for all as well
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_layout(place / "layout", node_cache, place / "state")
        _unpack(place / "layout", place / "own")
        _unpack(place / "layout", place / "mapped", f"0:{podspec.FIRST_ID}:{podspec.IDS}")
    return place


def _make_layout(layout: Path, cache: Path, state: Path) -> None:
    if (layout / "index.json").exists():
        return
    command = [sys.executable, "-m", "knarr", "node", "build", "--platform=linux/amd64,linux/arm64", f"--cache={cache}"]
    done = subprocess.run(
        [*command, f"--output=type=oci,tar=false,dest={layout},name=node.example/node:1"],
        env={**os.environ, "KNARR_ROOT": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
    )
    assert done.returncode == 0, done.stderr


def _unpack(layout: Path, bundle: Path, ids: str = "") -> None:
    """The image for this machine's platform, unpacked by programs that we did not write."""
    if (bundle / "rootfs").exists():
        return
    single = bundle.with_name(f"{bundle.name}-layout")
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:1", f"oci:{single}:1"], check=True)
    maps = [f"--{kind}-map={ids}" for kind in ("uid", "gid")] if ids else []
    subprocess.run(["umoci", "unpack", *maps, "--image", f"{single}:1", str(bundle)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def node_layout(node_images: Path) -> Path:
    """An OCI layout with the node image, as tag 1."""
    return node_images / "layout"


@pytest.fixture(scope="session")
def node_rootfs(node_images: Path) -> Path:
    """The root directory of the image for this machine."""
    return node_images / "own/rootfs"


@pytest.fixture(scope="session")
def node_rootfs_of_a_namespace(node_images: Path) -> Path:
    """The same with the owners that a pod with a user namespace sees as its own."""
    return node_images / "mapped/rootfs"


@pytest.fixture
def node(node_rootfs: Path) -> Iterator[Callable[..., Node]]:
    """Makes a container of the image, with a directory of its own on a disk (not on overlayfs)."""
    with _directories() as new:
        yield lambda rootfs=node_rootfs, **fields: Node(rootfs, new(), **fields)


@contextmanager
def _directories() -> Iterator[Callable[[], Path]]:
    def new(place: str) -> Path:
        made = Path(tempfile.mkdtemp(dir=place))
        made.chmod(0o755)  # root of a user namespace is not the owner
        return made

    with tempfile.TemporaryDirectory(prefix="knarr-node-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        yield lambda: new(place)
