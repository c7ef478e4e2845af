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
def node_layout(node_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with the node image."""
    cache = node_cache
    layout = tmp_path_factory.mktemp("node-image")
    command = [sys.executable, "-m", "knarr", "node", "build", "--platform=linux/amd64,linux/arm64", f"--cache={cache}"]
    env = {**os.environ, "KNARR_ROOT": str(tmp_path_factory.mktemp("node-state"))}
    with open(cache / "lock", "w") as lock:  # apt has one state for all xdist workers
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            [*command, f"--output=type=oci,dest={layout}/node.tar,name=node.example/node:1"],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_S,
        )
    assert done.returncode == 0, done.stderr
    subprocess.run(["tar", "-xf", f"{layout}/node.tar", "-C", layout], check=True)
    (layout / "node.tar").unlink()
    return layout


@pytest.fixture(scope="session")
def node_rootfs(node_layout: Path) -> Path:
    """The image for this machine's platform, unpacked by a program that we did not write."""
    bundle, own = node_layout / "bundle", node_layout / "own"
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", f"oci:{node_layout}:1", f"oci:{own}:1"], check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{own}:1", str(bundle)], check=True, capture_output=True)
    return bundle / "rootfs"


@pytest.fixture(scope="session")
def node_rootfs_of_a_namespace(node_layout: Path, node_rootfs: Path) -> Path:
    """The same with the owners that a pod with a user namespace sees as its own."""
    bundle = node_layout / "mapped"
    ids = [f"--{kind}-map=0:{podspec.FIRST_ID}:{podspec.IDS}" for kind in ("uid", "gid")]
    words = ["umoci", "unpack", *ids, "--image", f"{node_layout}/own:1", str(bundle)]
    subprocess.run(words, check=True, capture_output=True)
    return bundle / "rootfs"


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
