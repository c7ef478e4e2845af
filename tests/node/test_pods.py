"""Jobs of `knarr kubernetes job`, run as their manifests say: all profiles build the same for two platforms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knarr.cli.kubernetes import run
from tests.node import podspec
from tests.node.container import Node

pytestmark = [pytest.mark.root, pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(600)]

DOCKERFILE = """\
FROM busybox
RUN uname -m > /machine && mkdir /srv && echo made > /srv/file && chmod 640 /srv/file
COPY Dockerfile /kept
"""
PROFILES = ("privileged", "userns", "baseline", "restricted")
Digests = dict[str, str]


@pytest.fixture(scope="module")
def digests() -> Digests:
    """What the profiles before made."""
    return {}


KUBECTL = """\
#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift
exec {runc} exec {env} {name} "$@"
"""


def test_a_pod_without_a_command_is_a_builder_that_kubectl_leads_to(
    node: Callable[..., Node], busybox_layout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["pod", "--image", "node.example/node:1", "--profile", "restricted"])
    pod = yaml.safe_load(capsys.readouterr().out)["spec"]
    here = node()
    here.bind(podspec.volumes(pod, here.place))
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    (host,) = (each["value"] for each in pod["containers"][0]["env"] if each["name"] == "BUILDKIT_HOST")
    words = {"runc": " ".join(here.runc), "env": f"--env BUILDKIT_HOST={host}", "name": here.name}
    kubectl.write_text(KUBECTL.format(**words))
    kubectl.chmod(0o755)
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(DOCKERFILE)
    base = f"--build-context=busybox=oci-layout://{busybox_layout}:latest"
    command = [sys.executable, "-m", "knarr", "build", "--builder=kube-pod://knarr", base]
    env = {**os.environ, "PATH": f"{kubectl.parent}:{os.environ['PATH']}", "KNARR_ROOT": str(tmp_path / "state")}
    with here.started(**podspec.changed(here.configuration([]), pod)):
        here.until("running server")
        done = subprocess.run(
            [*command, f"--output=type=local,dest={tmp_path}/out", str(tmp_path / "context")],
            env=env,
            capture_output=True,
            text=True,
            timeout=200,
        )
    assert done.returncode == 0, done.stderr + here.log.read_text()[-3000:]
    assert (tmp_path / "out/srv/file").read_text() == "made\n"


def manifest(profile: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    build = ("build", "--progress=plain", "--platform=linux/amd64,linux/arm64", "--provenance=false")
    words = (
        "--build-context=busybox=oci-layout:///bases/busybox:latest",
        "--output=type=oci,dest=/state/out,tar=false,rewrite-timestamp=true",
    )
    epoch = ("--env", "SOURCE_DATE_EPOCH=1700000000")
    run(["job", "--image", "node.example/node:1", "--profile", profile, *epoch, "--", *build, *words, "/workspace"])
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_a_job_builds_for_two_platforms_and_what_comes_out_is_the_same(
    profile: str,
    digests: Digests,
    node: Callable[..., Node],
    node_rootfs_of_a_namespace: Path,
    busybox_layout: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pod = manifest(profile, capsys)
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    tmp_path.chmod(0o755)
    inside = {"rootfs": node_rootfs_of_a_namespace} if profile == "userns" else {}
    here = node(binds={busybox_layout: "/bases/busybox", tmp_path: "/workspace"}, **inside)
    here.bind(podspec.volumes(pod, here.place))
    changes = podspec.changed(here.configuration([]), pod)
    with here.started(**changes) as process:
        assert process.wait(300) == 0, here.log.read_text()[-4000:]
    (described,) = json.loads((here.place / "state/out/index.json").read_text())["manifests"]
    digests[profile] = described["digest"]
    assert len(set(digests.values())) == 1, digests
