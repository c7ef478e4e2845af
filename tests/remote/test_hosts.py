from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from knarr.errors import UsageError
from knarr.remote.hosts import ALL, Endpoint, Hosts
from knarr.remote.settings import RegistrySettings
from knarr.remote.url import Origin


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def endpoints(registry: str, *roots: Path, toml: Path | None = None, **more: object) -> tuple[Endpoint, ...]:
    settings = RegistrySettings(
        hosts_dirs=tuple(map(str, roots)),
        buildkitd_toml=(str(toml),) if toml else (),
        **more,  # type: ignore[arg-type]
    )
    return Hosts(settings).endpoints(registry)


def urls(found: tuple[Endpoint, ...]) -> list[str]:
    return [f"{endpoint.origin}{endpoint.prefix}" for endpoint in found]


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("registry.example", "https://registry.example/v2"),
        ("registry.example:5000", "https://registry.example:5000/v2"),
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("localhost", "https://localhost/v2"),
        ("localhost:443", "https://localhost/v2"),
    ],
)
def test_without_configuration_only_loopback_is_plain(registry: str, expected: str) -> None:
    (only,) = endpoints(registry)
    assert f"{only.origin}{only.prefix}" == expected
    assert only.namespace == ""


def test_loopback_with_a_ca_is_asked_over_tls(tmp_path: Path) -> None:
    write(tmp_path, "localhost:5000/ca.crt")
    assert urls(endpoints("localhost:5000", tmp_path)) == ["https://localhost:5000/v2"]


def test_hosts_toml_gives_mirrors_in_order_and_the_server_last(tmp_path: Path) -> None:
    text = """
server = "https://real.example"
skip_verify = true
[host."https://one.example:8443/proxy"]
  capabilities = ["pull", "resolve"]
  ca = "one.pem"
  client = [["c.pem", "k.pem"]]
  dial_timeout = "1m30s"
  [host."https://one.example:8443/proxy".header]
    x-a = ["1", "2"]
[host."http://two.example/own/api"]
  override_path = true
[host."three.example"]
  capabilities = ["push"]
"""
    path = write(tmp_path, "r.example_5000_/hosts.toml", text)
    one, two, three, server = endpoints("r.example:5000", tmp_path)

    assert (one.origin, one.prefix) == (Origin("https", "one.example", 8443), "/proxy/v2")
    assert one.capabilities == {"pull", "resolve", "referrers"}
    assert one.trust.ca == (str(path.parent / "one.pem"),)
    assert one.trust.client == ((str(path.parent / "c.pem"), str(path.parent / "k.pem")),)
    assert one.headers == (("x-a", "1"), ("x-a", "2"))
    assert one.dial_timeout_s == 90
    assert one.namespace == "r.example:5000"
    assert urls((two, three)) == ["http://two.example/own/api", "https://three.example/v2"]
    assert three.capabilities == {"push"}
    assert urls((server,)) == ["https://real.example/v2"]
    assert not server.trust.verify
    assert server.capabilities == ALL


def test_without_a_server_the_registry_itself_comes_last(tmp_path: Path) -> None:
    write(tmp_path, "docker.io/hosts.toml", '[host."http://mirror:5000"]\n')
    mirror, hub = endpoints("docker.io", tmp_path)

    assert (mirror.namespace, hub.namespace) == ("docker.io", "")
    assert urls((hub,)) == ["https://registry-1.docker.io/v2"]


def test_a_login_for_the_registry_goes_to_its_server_and_to_no_mirror(tmp_path: Path) -> None:
    text = 'server = "https://10.0.0.1:5001"\n[host."https://mirror.example"]\n'
    write(tmp_path, "r.example/hosts.toml", text)
    write(tmp_path, "docker.io/hosts.toml", text)

    mirror, server = endpoints("r.example", tmp_path)
    assert (mirror.accounts, server.accounts) == (("mirror.example",), ("10.0.0.1:5001", "r.example"))
    assert [e.accounts for e in endpoints("docker.io", tmp_path)] == [("mirror.example",), ("10.0.0.1:5001",)]
    assert [e.accounts for e in endpoints("docker.io")] == [("docker.io",)]


def test_default_stands_in_only_where_nothing_names_the_host(tmp_path: Path) -> None:
    write(tmp_path / "a", "_default/hosts.toml", '[host."http://default:5000"]\n')
    write(tmp_path / "b", "named.example/hosts.toml", '[host."http://named:5000"]\n')
    roots = (tmp_path / "a", tmp_path / "b")

    assert urls(endpoints("other.example", *roots))[0] == "http://default:5000/v2"
    assert urls(endpoints("named.example", *roots))[0] == "http://named:5000/v2"


def test_a_ca_in_any_directory_counts_whichever_names_the_endpoints(tmp_path: Path) -> None:
    write(tmp_path / "containerd", "r.example/hosts.toml", 'server = "https://r.example"\nca = "/own.pem"\n')
    docker = write(tmp_path / "docker", "r.example/private.crt")
    certificate = write(tmp_path / "podman", "r.example/me.cert")
    key = write(tmp_path / "podman", "r.example/me.key")
    (only,) = endpoints("r.example", *(tmp_path / name for name in ("containerd", "docker", "podman")))

    assert only.trust.ca == ("/own.pem", str(docker))
    assert only.trust.client == ((str(certificate), str(key)),)
    assert str(tmp_path / "docker" / "r.example") in only.trust.looked_in


def test_buildkitd_toml_gives_mirrors_http_and_certificates(tmp_path: Path) -> None:
    text = """
[registry."docker.io"]
  mirrors = ["mirror.example:5000/hub", "second.example"]
[registry."mirror.example:5000"]
  http = true
[registry."second.example"]
  insecure = true
  ca = ["/second.pem"]
  [[registry."second.example".keypair]]
    key = "/k.pem"
    cert = "/c.pem"
"""
    mirror, second, hub = endpoints("docker.io", toml=write(tmp_path, "buildkitd.toml", text))

    assert urls((mirror, second, hub)) == [
        "http://mirror.example:5000/hub/v2",
        "https://second.example/v2",
        "https://registry-1.docker.io/v2",
    ]
    assert "push" not in mirror.capabilities
    assert (second.trust.ca, second.trust.client) == (("/second.pem",), (("/c.pem", "/k.pem"),))
    assert not second.trust.verify
    assert hub.trust.verify


def test_settings_say_plain_and_insecure() -> None:
    (plain,) = endpoints("r.example:80", plain_http=frozenset(("r.example:80",)))
    (insecure,) = endpoints("r.example", insecure=frozenset(("r.example",)))

    assert urls((plain,)) == ["http://r.example/v2"]
    assert (insecure.origin.scheme, insecure.trust.verify, insecure.plain_fallback) == ("https", False, True)


def test_a_change_of_a_file_counts_at_the_next_use(tmp_path: Path) -> None:
    hours = itertools.count()
    hosts = Hosts(RegistrySettings(hosts_dirs=(str(tmp_path),), buildkitd_toml=()), clock=lambda: next(hours) * 3600)
    assert len(hosts.endpoints("r.example")) == 1

    path = write(tmp_path, "r.example/hosts.toml", '[host."https://one.example"]\n')
    assert urls(hosts.endpoints("r.example"))[0] == "https://one.example/v2"
    path.write_text('[host."https://two.example"]\n')
    os.utime(path, ns=(1, 1))
    assert urls(hosts.endpoints("r.example"))[0] == "https://two.example/v2"
    assert hosts.endpoints("r.example") is hosts.endpoints("r.example")


def test_files_are_not_looked_at_for_every_request(tmp_path: Path) -> None:
    hosts = Hosts(RegistrySettings(hosts_dirs=(str(tmp_path),), buildkitd_toml=()), clock=lambda: 1.0)
    assert len(hosts.endpoints("r.example")) == 1
    write(tmp_path, "r.example/hosts.toml", '[host."https://one.example"]\n')
    assert len(hosts.endpoints("r.example")) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server = ", "hosts.toml"),
        ('capabilities = "pull"', "capabilities"),
        ('capabilities = ["fly"]', "capabilities"),
        ("ca = 3", "ca must be"),
        ('client = [["a", "b", "c"]]', "client"),
        ('dial_timeout = "soon"', "dial_timeout"),
        ('server = "ftp://r.example"', "not a host"),
        ("host = 1", "host must be tables"),
    ],
)
def test_a_mistake_in_hosts_toml_names_the_file_and_the_field(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, "r.example/hosts.toml", text)
    with pytest.raises(UsageError, match=says) as caught:
        endpoints("r.example", tmp_path)
    assert str(path) in caught.value.message


def test_a_client_certificate_without_its_key_is_a_mistake(tmp_path: Path) -> None:
    write(tmp_path, "r.example/me.cert")
    with pytest.raises(UsageError, match=r"no me\.key beside it"):
        endpoints("r.example", tmp_path)
