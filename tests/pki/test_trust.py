"""What is laid out for each tool, how it is taken away again, and what of people's own is left alone."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from knarr.errors import UsageError
from knarr.pki import trust
from knarr.pki.authority import Authority
from knarr.pki.trust import TOOLS, Description

HOST, OTHER = "registry.corp.example:5000", "other.corp.example"


@pytest.fixture
def about(make: Callable[..., Authority], give: Callable[..., Path]) -> Callable[[str], Description]:
    authority = make()
    client = give(authority, "alice")
    ca = (authority.directory / "ca.pem").read_bytes()
    pair = ((client / "cert.pem").read_bytes(), (client / "key.pem").read_bytes())
    return lambda host: Description(host, ca, pair)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_every_tool_finds_the_ca_where_it_looks(about: Callable[[str], Description], tmp_path: Path) -> None:
    root = tmp_path / "root"
    made = about(HOST)
    trust.install(trust.plan(made, TOOLS), root)
    found = tree(root)
    for base in ("docker", "containers", "containerd", "knarr"):
        assert found[f"etc/{base}/certs.d/{HOST}/ca.crt"] == made.ca
        assert f"etc/{base}/certs.d/{HOST}/client.key" in found
    assert (root / f"etc/docker/certs.d/{HOST}/client.key").stat().st_mode & 0o777 == 0o600
    assert found["usr/local/share/ca-certificates/knarr-registry.corp.example_5000.crt"] == made.ca
    hosts = tomllib.loads(found[f"etc/containerd/certs.d/{HOST}/hosts.toml"].decode())
    assert hosts["server"] == f"https://{HOST}"
    assert hosts["host"][f"https://{HOST}"]["ca"] == [f"/etc/containerd/certs.d/{HOST}/ca.crt"]
    table = tomllib.loads(found["etc/buildkit/buildkitd.toml"].decode())["registry"][HOST]
    assert table["ca"] == [f"/etc/buildkit/certs.d/{HOST}/ca.crt"]
    assert table["keypair"][0]["key"].endswith("client.key")
    k3s = yaml.safe_load(found["etc/rancher/k3s/registries.yaml"])
    assert k3s["configs"][HOST]["tls"]["ca_file"] == f"/etc/rancher/k3s/certs.d/{HOST}/ca.crt"


def test_a_second_time_changes_nothing_and_removing_leaves_nothing(
    about: Callable[[str], Description], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    planned = [*trust.plan(about(HOST), TOOLS), *trust.plan(about(OTHER), TOOLS)]
    trust.install(planned, root)
    before = tree(root)
    assert {change.what for change in trust.install(planned, root)} == {"same"}
    assert tree(root) == before
    assert yaml.safe_load(before["etc/rancher/k3s/registries.yaml"])["configs"].keys() == {HOST, OTHER}
    trust.remove(planned[: len(planned) // 2], root)
    assert yaml.safe_load((root / "etc/rancher/k3s/registries.yaml").read_text())["configs"].keys() == {OTHER}
    trust.remove(planned, root)
    assert tree(root) == {}


def test_what_people_wrote_stays_word_for_word(about: Callable[[str], Description], tmp_path: Path) -> None:
    root = tmp_path / "root"
    own = {
        "etc/buildkit/buildkitd.toml": '# ours\ndebug = true\n\n[registry."docker.io"]\n  mirrors = ["m.example"]\n',
        "etc/rancher/k3s/registries.yaml": "mirrors:\n  docker.io:\n    endpoint: [https://m.example]\n",
    }
    for path, text in own.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    planned = trust.plan(about(HOST), ("buildkitd", "k3s"))
    trust.install(planned, root)
    for path, text in own.items():
        assert (root / path).read_text().startswith(text)
    assert set(tomllib.loads((root / "etc/buildkit/buildkitd.toml").read_text())["registry"]) == {"docker.io", HOST}
    assert set(yaml.safe_load((root / "etc/rancher/k3s/registries.yaml").read_text())) == {"mirrors", "configs"}
    trust.remove(planned, root)
    assert {path: (root / path).read_text() for path in own} == own


def test_a_file_that_speaks_of_the_host_already_is_left_alone(
    about: Callable[[str], Description], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    own = {
        "etc/buildkit/buildkitd.toml": f'[registry."{HOST}"]\n  http = true\n',
        "etc/rancher/k3s/registries.yaml": "configs:\n  a.example: {}\n",
    }
    for path, text in own.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    changes = trust.install(trust.plan(about(HOST), ("buildkitd", "k3s")), root)
    left = {change.file.path: change.why for change in changes if change.what == "left alone"}
    assert set(left) == {"/" + path for path in own}
    assert {path: (root / path).read_text() for path in own} == own


def test_a_ca_that_somebody_else_put_there_is_not_removed(about: Callable[[str], Description], tmp_path: Path) -> None:
    place = tmp_path / f"root/etc/docker/certs.d/{HOST}/ca.crt"
    place.parent.mkdir(parents=True)
    place.write_text("another")
    changes = trust.remove(trust.plan(about(HOST), ("docker",)), tmp_path / "root")
    assert changes[0].what == "left alone"
    assert place.read_text() == "another"


def test_an_unknown_tool_is_refused(about: Callable[[str], Description]) -> None:
    with pytest.raises(UsageError, match="nothing is known of rkt"):
        trust.plan(about(HOST), ("rkt",))


def test_kubernetes_gets_a_config_map_and_a_daemon_set_that_uses_it(about: Callable[[str], Description]) -> None:
    config, daemon = (json.loads(part) for part in trust.kubernetes(about(HOST)).split("\n---\n"))
    assert list(yaml.safe_load_all(trust.kubernetes(about(HOST)))) == [config, daemon]
    assert config["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE")
    volumes = daemon["spec"]["template"]["spec"]["volumes"]
    assert volumes[0]["configMap"]["name"] == config["metadata"]["name"]
    assert daemon["spec"]["selector"]["matchLabels"] == daemon["spec"]["template"]["metadata"]["labels"]
