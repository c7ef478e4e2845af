"""skopeo reads what we make in every form, and no copy changes a digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Shipped, run

pytestmark = [pytest.mark.root, pytest.mark.system]


def skopeo(*argv: str | Path) -> str:
    return run("skopeo", "--insecure-policy", *argv)


def test_it_sees_the_config_that_we_meant(shipped: Shipped) -> None:
    config = json.loads(skopeo("inspect", "--config", f"oci-archive:{shipped.oci}"))["config"]
    assert config == {
        "User": "app",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GREETING=hello"],
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": [shipped_command()],
        "Volumes": {"/vol": {}},
        "WorkingDir": "/work",
        "Labels": {"a.b": "c <&>"},
        **({"ArgsEscaped": True} if "ArgsEscaped" in config else {}),  # skopeo of Debian 12 drops it
    }


def shipped_command() -> str:
    from .conftest import DOCKERFILE

    return str(json.loads(DOCKERFILE.splitlines()[-1].removeprefix("CMD "))[0])


def test_its_digest_is_the_one_that_the_build_told(shipped: Shipped) -> None:
    told = json.loads(skopeo("inspect", f"oci-archive:{shipped.oci}"))
    assert told["Digest"] == shipped.metadata["containerimage.digest"]
    assert told["Architecture"] == "amd64"
    assert len(told["Layers"]) == 8


@pytest.mark.parametrize("form", ["oci", "docker", "docker_types", "zstd"])
def test_every_form_holds_the_same_image(shipped: Shipped, form: str) -> None:
    kind = "docker-archive" if form == "docker_types" else "oci-archive"
    config = json.loads(skopeo("inspect", "--config", f"{kind}:{getattr(shipped, form)}"))
    assert config["rootfs"] == json.loads(skopeo("inspect", "--config", f"oci-archive:{shipped.oci}"))["rootfs"]


@pytest.mark.parametrize("form", ["docker", "docker_types"])
def test_a_docker_archive_names_the_image(shipped: Shipped, form: str) -> None:
    told = json.loads(skopeo("inspect", f"docker-archive:{getattr(shipped, form)}:{shipped.name}"))
    assert told["Labels"] == {"a.b": "c <&>"}


@pytest.mark.parametrize("form", ["oci", "zstd", "both"])
def test_a_copy_to_a_registry_keeps_the_digest(shipped: Shipped, bases: Any, tmp_path: Path, form: str) -> None:
    there = f"docker://{bases.address}/interop/{form}:v1"
    skopeo("copy", "-q", "--all", f"oci-archive:{getattr(shipped, form)}", f"oci:{tmp_path}:v1")
    skopeo("copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", f"oci:{tmp_path}:v1", there)
    skopeo("copy", "-q", "--all", "--preserve-digests", "--src-tls-verify=false", there, f"dir:{tmp_path / 'back'}")
    raw = skopeo("inspect", "--raw", f"oci:{tmp_path}:v1")
    assert (tmp_path / "back/manifest.json").read_text() == raw


def test_both_platforms_are_there(shipped: Shipped) -> None:
    raw = json.loads(skopeo("inspect", "--raw", f"oci-archive:{shipped.both}"))
    assert [one["platform"] for one in raw["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
        *[{"architecture": "unknown", "os": "unknown"}] * 2,  # their attestations
    ]
    for arch in ("amd64", "arm64"):
        config = skopeo("--override-arch", arch, "inspect", "--config", f"oci-archive:{shipped.both}")
        assert json.loads(config)["architecture"] == arch
