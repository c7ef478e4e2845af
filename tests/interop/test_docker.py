"""dockerd loads and runs what we build, and we load what it saves; a dockerd of our own, apart from the machine's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Knarr, Shipped, dockerd, run

pytestmark = [pytest.mark.root, pytest.mark.system]

Docker = Callable[..., str]


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    with dockerd(tmp_path_factory.mktemp("dkr")) as address:
        yield lambda *argv: run("docker", "--host", address, *argv)


@pytest.mark.parametrize("form", ["docker", "docker_types"])
def test_it_runs_what_it_loaded(docker: Docker, shipped: Shipped, form: str) -> None:
    assert docker("load", "-q", "-i", str(getattr(shipped, form))) == f"Loaded image: {shipped.name}\n"
    assert docker("run", "--rm", "--network", "host", shipped.name) == shipped.said


def test_it_shows_what_we_wrote(docker: Docker, shipped: Shipped) -> None:
    docker("load", "-q", "-i", str(shipped.docker))
    told = json.loads(docker("inspect", shipped.name))[0]
    assert told["Config"]["User"] == "app"
    assert told["Config"]["Labels"] == {"a.b": "c <&>"}
    assert len(told["RootFS"]["Layers"]) == 8
    steps = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", shipped.name).splitlines()
    assert steps[1] == 'ENTRYPOINT ["/bin/sh" "-c"]'


def test_we_load_what_it_saved_and_it_is_the_same_image(
    docker: Docker, shipped: Shipped, knarr: Knarr, tmp_path: Path
) -> None:
    docker("load", "-q", "-i", str(shipped.docker))
    docker("tag", shipped.name, "example.com/saved:v1")
    docker("save", "-o", str(tmp_path / "saved.tar"), "example.com/saved:v1")
    knarr("load", "-q", "-i", tmp_path / "saved.tar")
    config = json.loads(knarr("inspect", "--config", "example.com/saved:v1"))
    ours = json.loads(run("skopeo", "inspect", "--config", "--raw", f"oci-archive:{shipped.oci}"))
    assert config["rootfs"] == ours["rootfs"]
    assert config["config"]["Entrypoint"] == ["/bin/sh", "-c"]


def test_it_loads_what_we_save(docker: Docker, shipped: Shipped, knarr: Knarr, tmp_path: Path) -> None:
    knarr("load", "-q", "-i", shipped.both)
    knarr("save", "-q", "--platform", "linux/amd64", "-o", tmp_path / "ours.tar", shipped.name)
    docker("load", "-q", "-i", str(tmp_path / "ours.tar"))
    assert docker("run", "--rm", "--network", "host", shipped.name) == shipped.said
