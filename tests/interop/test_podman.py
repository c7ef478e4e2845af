"""podman and buildah take our images as their own, on storage apart from the machine's."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Knarr, Shipped, run

pytestmark = [pytest.mark.root, pytest.mark.system]


class Containers:
    """podman and buildah on one storage."""

    def __init__(self, place: Path) -> None:
        self._storage = ("--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs")

    def podman(self, *argv: str | Path) -> str:
        return run("podman", *self._storage, "--cgroup-manager=cgroupfs", "--events-backend=file", *argv)

    def buildah(self, *argv: str | Path) -> str:
        return run("buildah", *self._storage, *argv)


@pytest.fixture(scope="session")
def containers() -> Iterator[Containers]:
    # Not pytest's directory: podman takes no runroot of more than 50 characters.
    place = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
    yield Containers(place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("form", ["oci", "docker", "docker_types", "zstd"])
def test_podman_runs_what_it_loaded(containers: Containers, shipped: Shipped, form: str) -> None:
    containers.podman("load", "-q", "-i", getattr(shipped, form))
    said = containers.podman(
        *("--runtime=runc", "run", "--rm", "--network=host", "--pull=never"),
        *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),  # its defaults are more than some machines allow
        shipped.name,
    )
    assert said == shipped.said


def test_podman_shows_what_we_wrote(containers: Containers, shipped: Shipped) -> None:
    containers.podman("load", "-q", "-i", shipped.oci)
    told = json.loads(containers.podman("inspect", shipped.name))[0]
    assert told["Digest"] == shipped.metadata["containerimage.digest"]
    assert told["Config"]["WorkingDir"] == "/work"


def test_buildah_builds_on_our_image_and_we_load_what_it_made(
    containers: Containers, shipped: Shipped, knarr: Knarr, tmp_path: Path
) -> None:
    containers.podman("load", "-q", "-i", shipped.oci)
    name = containers.buildah("from", "--pull-never", shipped.name).strip()
    assert containers.buildah("run", "--isolation=chroot", name, "--", "sh", "-c", "id -u") == "1234\n"
    containers.buildah("config", "--label", "by=buildah", name)
    containers.buildah("commit", "-q", name, f"oci-archive:{tmp_path / 'built.tar'}:example.com/built:v1")
    knarr("load", "-q", "-i", tmp_path / "built.tar")
    config = json.loads(knarr("inspect", "--config", "example.com/built:v1"))
    assert config["config"]["Labels"]["by"] == "buildah"
