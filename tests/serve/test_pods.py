"""Manifests of `knarr kubernetes job` and `pod`: judged by Kubernetes' own published schemas and by kubectl."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from knarr.cli.kubernetes import run
from knarr.errors import UsageError
from knarr.serve.pods import SECURITY

BUILD = ("--", "build", "--push", "-t", "r.example/app:1", "https://git.example/app.git")
WHOLE = (
    *("--name", "app-build", "--namespace", "builds", "--registry-secret", "push", "--ca", "corp-ca"),
    *("--state-claim", "cache", "--context-claim", "source", "--secret", "npm", "--secret", "pip.conf"),
    *("--pull-secret", "pull", "--env", "HTTPS_PROXY=http://proxy.example:3128", "--cpu", "2", "--memory", "4Gi"),
)


def printed(capsys: pytest.CaptureFixture[str], kind: str, *words: str) -> dict[str, Any]:
    assert run([kind, "--image", "r.example/node:1", *words]) == 0
    (document,) = yaml.safe_load_all(capsys.readouterr().out)
    found: dict[str, Any] = document
    return found


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = document["spec"]["template"]["spec"] if document["kind"] == "Job" else document["spec"]
    return spec


@pytest.mark.parametrize("version", ["1.33", "1.36"])
@pytest.mark.parametrize("profile", SECURITY)
@pytest.mark.parametrize("kind", ["job", "pod"])
def test_every_field_is_one_that_kubernetes_knows(
    kind: str, profile: str, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = printed(capsys, kind, "--profile", profile, *WHOLE, *BUILD)
    kubernetes_validate.validate(document, version, strict=True)
    assert document["kind"].lower() == kind


@pytest.mark.system
@pytest.mark.parametrize("kind", ["job", "pod"])
def test_kubectl_applies_it(kind: str, cluster: str, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl = shutil.which("kubectl")
    assert kubectl, "tools/system-packages installs it"
    text = yaml.safe_dump(printed(capsys, kind, *WHOLE, *BUILD))
    words = [kubectl, "--server", cluster, "apply", "--dry-run=client", "--validate=false", "-f", "-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert "created (dry run)" in done.stdout, done.stderr


@pytest.mark.parametrize("profile", SECURITY)
def test_what_is_mounted_is_there(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    pod = pod_of(printed(capsys, "job", "--profile", profile, *WHOLE, *BUILD))
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert set(mounts) == {each["name"] for each in pod["volumes"]}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["KNARR_ROOT"] == mounts["state"]
    assert environment["DOCKER_CONFIG"] == mounts["logins"]
    assert environment["SSL_CERT_FILE"] == mounts["ca"] + "/ca.crt"
    assert container["command"] == ["knarr", *BUILD[1:]]


def test_the_restricted_profile_is_what_the_pod_security_standard_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    pod = pod_of(printed(capsys, "job", *BUILD))
    (container,) = pod["containers"]
    security = container["securityContext"]
    # Spec: Kubernetes, "Pod Security Standards", level Restricted, each of its controls.
    assert security["allowPrivilegeEscalation"] is False
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] != 0
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    assert {kind for each in pod["volumes"] for kind in each} <= {"name", "emptyDir", "persistentVolumeClaim"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


def test_a_pod_without_a_command_is_a_builder(capsys: pytest.CaptureFixture[str]) -> None:
    (container,) = pod_of(printed(capsys, "pod"))["containers"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert container["command"] == ["knarr", "daemon", "--addr", environment["BUILDKIT_HOST"]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "a knarr command is needed"),
        (("--profile", "rootfull", *BUILD), "--profile rootfull: not known"),
        (("--name", "Not_A_Name", *BUILD), "Kubernetes takes no such value"),
        (("--memory", "much", *BUILD), "Kubernetes takes no such value"),
        (("--env", "novalue", *BUILD), "Kubernetes takes no such value"),
        (("--tries", "0", *BUILD), "not a whole number of at least 1"),
        (("--registry-secret", "a/b", *BUILD), "Kubernetes takes no such value"),
    ],
)
def test_what_cannot_be_meant_is_told(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(["job", "--image", "r.example/node:1", *words])


def test_an_image_is_needed() -> None:
    with pytest.raises(UsageError, match="--image is needed"):
        run(["job", *BUILD])
