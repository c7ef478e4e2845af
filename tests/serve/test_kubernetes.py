"""Manifests of `knarr serve --kubernetes`: judged by kubectl and by Kubernetes' own published schemas."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from knarr.cli.servekubernetes import run
from knarr.errors import UsageError

VARIANTS = {
    "privileged": ("--tls-secret", "registry-tls"),
    "rootless": ("--tls-secret", "registry-tls", "--rootless", "--namespace", "builds", "--hostname", "r.example:5000"),
    "whole": (
        *("--storage", "200Gi", "--storage-class", "fast", "--cpu", "500m", "--memory", "4Gi", "--pull-secret", "pull"),
        *("--allow-namespace", "ci", "--allow-cidr", "10.0.0.0/8", "--tls-cert", "crt", "--tls-key", "key"),
        *("--tls-ca", "ca", "--htpasswd", "htpasswd"),
    ),
}


@pytest.fixture(params=VARIANTS)
def printed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("crt", "key", "ca", "htpasswd"):
        (tmp_path / name).write_text(f"{name}\n")
    assert run(["--image", "registry.example/knarr:1", *VARIANTS[request.param]]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("version", ["1.33", "1.36"])
def test_every_field_is_one_that_kubernetes_knows(printed: str, version: str) -> None:
    documents = list(yaml.safe_load_all(printed))
    for document in documents:
        kubernetes_validate.validate(document, version, strict=True)
    assert {document["kind"] for document in documents} >= {"StatefulSet", "Service", "NetworkPolicy"}


def test_the_schemas_do_find_a_field_that_is_not_there(printed: str) -> None:
    wrong = next(each for each in yaml.safe_load_all(printed) if each["kind"] == "StatefulSet")
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privledged"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


@pytest.mark.system
def test_kubectl_applies_all_of_it(printed: str, cluster: str) -> None:
    kubectl = shutil.which("kubectl")
    assert kubectl, "tools/system-packages installs it"
    words = [kubectl, "--server", cluster, "apply", "--dry-run=client", "--validate=false", "-f", "-"]
    done = subprocess.run(words, input=printed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(printed))
    assert done.stdout.count("created (dry run)") == len(documents)


def test_what_is_mounted_is_there_and_what_selects_finds(printed: str) -> None:
    found = {document["kind"]: document for document in yaml.safe_load_all(printed)}
    pod = found["StatefulSet"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == {each["name"] for each in pod["spec"]["volumes"]}
    labels = pod["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= ports


def test_the_configuration_is_one_that_serve_reads(printed: str, tmp_path: Path) -> None:
    from knarr.daemon.configfile import read as read_daemon
    from knarr.daemon.settings import DaemonSettings
    from knarr.serve.configfile import TABLE, read

    found = {document["kind"]: document for document in yaml.safe_load_all(printed)}
    file = tmp_path / "serve.toml"
    file.write_text(found["ConfigMap"]["data"]["serve.toml"])
    daemon = read_daemon(str(file), DaemonSettings(tmp_path), apart=TABLE)
    assert (daemon.warnings, daemon.debug_address) == ((), "0.0.0.0:6060")
    assert read(file).registry.port == 5000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--image is needed"),
        (("--image", "a"), "the daemon needs certificates"),
        (("--image", "a", "--tls-cert", "b"), "go together"),
        (("--image", "a", "--tls-secret", "b", "--namespace", "Not_A_Name"), "Kubernetes takes no such value"),
        (("--image", "a", "--tls-secret", "b", "--storage", "much"), "Kubernetes takes no such value"),
        (("--image", "a", "--tls-secret", "b", "--allow-cidr", "everywhere"), "Kubernetes takes no such value"),
    ],
)
def test_what_cannot_be_meant_is_told(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run(list(words))
