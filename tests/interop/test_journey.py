"""An image's whole life by our commands, with skopeo looking on: built, named, pushed, lost, pulled, saved, loaded."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .conftest import Knarr, Shipped, run

pytestmark = [pytest.mark.root, pytest.mark.system]

DOCKERFILE = "FROM busybox\nRUN echo made > /made\nCOPY f /f\nLABEL by=knarr\n"


@pytest.fixture
def own(bases: Any, tmp_path: Path) -> Knarr:
    """A store for one test alone."""
    return Knarr(tmp_path / "state", bases.hosts_dir)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text(DOCKERFILE)
    (place / "f").write_bytes(bytes(range(256)) * 400)
    return place


def far(bases: Any, name: str) -> dict[str, Any]:
    """What skopeo sees in the registry."""
    told = run("skopeo", "inspect", "--tls-verify=false", f"docker://{bases.address}/{name}")
    return dict(json.loads(told))


def test_from_build_to_another_machine(own: Knarr, bases: Any, context: Path, tmp_path: Path) -> None:
    platforms = "linux/amd64,linux/arm64"
    own("build", "-q", "--platform", platforms, "-t", "app:v1", context)
    own("tag", "app:v1", f"{bases.address}/journey/app:v1", f"{bases.address}/journey/app:latest")
    own("push", "-q", f"{bases.address}/journey/app:v1", f"{bases.address}/journey/app:latest")
    assert far(bases, "journey/app:v1")["Digest"] == far(bases, "journey/app:latest")["Digest"]
    assert far(bases, "journey/app:v1")["Labels"] == {"by": "knarr"}

    other = Knarr(tmp_path / "other/state", bases.hosts_dir)
    name = f"{bases.address}/journey/app:v1"
    assert other("pull", "-q", "--all-platforms", name).strip().endswith(far(bases, "journey/app:v1")["Digest"])
    assert json.loads(other("inspect", "--raw", name)) == json.loads(own("inspect", "--raw", "app:v1"))
    steps = [json.loads(line) for line in other("history", "--format", "json", name).splitlines()]
    assert steps == [json.loads(line) for line in own("history", "--format", "json", "app:v1").splitlines()]


def test_what_has_no_name_left_goes_and_can_come_back(own: Knarr, bases: Any, context: Path) -> None:
    name = f"{bases.address}/journey/gone:v1"
    own("build", "-q", "--push", "-t", name, context)
    own("rmi", name)
    assert own("images", "-q") == ""
    blobs = own.root / "content/blobs/sha256"
    for blob in blobs.iterdir():
        os.utime(blob, (1577836800, 1577836800))  # prune leaves what another build may be about to name
    own("prune", "--all", "--force")
    assert os.listdir(blobs) == []
    assert _disk_use(own) < 500_000
    own("pull", "-q", name)
    assert json.loads(own("inspect", "--config", name))["config"]["Labels"] == {"by": "knarr"}
    own("doctor", "--store")


def _disk_use(knarr: Knarr) -> int:
    return int(run("du", "-sb", knarr.root).split()[0])


def test_du_counts_what_prune_frees(own: Knarr, context: Path) -> None:
    own("build", "-q", "-t", "app:v1", context)
    before = own("du")
    assert "RUN echo made > /made" in before
    own("prune", "--all", "--force")
    assert "RUN echo made > /made" not in own("du")


def test_a_pruned_store_builds_the_same_again(own: Knarr, context: Path, tmp_path: Path) -> None:
    archives = []
    for number in range(2):
        archive = tmp_path / f"{number}.tar"
        own("build", "-q", "--build-arg", "SOURCE_DATE_EPOCH=1600000000", "-o", f"type=oci,dest={archive}", context)
        archives.append(run("skopeo", "inspect", "--config", "--raw", f"oci-archive:{archive}"))
        own("prune", "--all", "--force")
    first, second = (json.loads(text) for text in archives)
    assert first["history"] == second["history"]
    assert first["rootfs"]["diff_ids"][0] == second["rootfs"]["diff_ids"][0]


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_what_is_saved_is_loaded_with_its_digest(own: Knarr, context: Path, tmp_path: Path, form: str) -> None:
    own("build", "-q", "-t", "app:v1", "-t", "app:v2", context)
    raw = own("inspect", "--raw", "app:v1")
    own("save", "-q", "--format", form, "-o", tmp_path / "saved.tar", "app:v1", "app:v2")
    own("rmi", "app:v1", "app:v2")
    own("load", "-q", "-i", tmp_path / "saved.tar")
    assert own("inspect", "--raw", "app:v1") == own("inspect", "--raw", "app:v2") == raw


@pytest.mark.parametrize("form", ["oci", "docker", "docker_types", "zstd", "both"])
def test_what_a_build_writes_is_loaded(own: Knarr, shipped: Shipped, tmp_path: Path, form: str) -> None:
    own("load", "-q", "-i", getattr(shipped, form))
    told = own("save", "-q", "--format", "oci", "-o", tmp_path / "again.tar", shipped.name)
    assert told is not None
    config = run("skopeo", "inspect", "--config", f"oci-archive:{tmp_path / 'again.tar'}")
    assert json.loads(config)["config"]["User"] == "app"


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes_is_loaded(own: Knarr, bases: Any, tmp_path: Path, form: str) -> None:
    place = tmp_path / "theirs"
    run(
        *("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"),
        *(f"docker://{bases.address}/library/busybox:latest", f"{form}:{place}:busy:v1"),
    )
    own("load", "-q", "-i", place)
    assert [json.loads(line)["Tag"] for line in own("images", "--format", "json").splitlines()] == ["v1"]


def test_a_loaded_image_is_a_base_without_any_registry(own: Knarr, shipped: Shipped, tmp_path: Path) -> None:
    own("load", "-q", "-i", shipped.oci)
    own("tag", shipped.name, "127.0.0.1:1/base:v1")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/Dockerfile").write_text("FROM 127.0.0.1:1/base:v1\nUSER root\nRUN cat /kept/ü/a > /copy\n")
    own("build", "-q", "-o", f"type=local,dest={tmp_path / 'out'}", tmp_path / "c")
    assert (tmp_path / "out/copy").read_text() == "a\n"
