"""buildkitd.toml as one record."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.daemon.configfile import duration_s, read, size_bytes
from knarr.daemon.settings import CollectRule, DaemonSettings, HistorySettings, Tls
from knarr.errors import UsageError

BASE = DaemonSettings(Path("/state"))


def parsed(tmp_path: Path, text: str) -> DaemonSettings:
    path = tmp_path / "buildkitd.toml"
    path.write_text(text)
    return read(str(path), BASE)


def test_what_it_says_counts(tmp_path: Path) -> None:
    found = parsed(
        tmp_path,
        """
root = "/elsewhere"
insecure-entitlements = ["network.host"]
[grpc]
address = ["unix:///run/a.sock", "tcp://0.0.0.0:1234"]
gid = 5
[grpc.tls]
cert = "/c"
key = "/k"
ca = "/ca"
[history]
maxAge = "24h"
maxEntries = 7
[worker.oci]
snapshotter = "native"
defaultCgroupParent = "/builds"
platforms = ["linux/amd64"]
gc = false
[worker.oci.labels]
team = "blue"
[[worker.oci.gcpolicy]]
all = true
filters = ["type==source.local"]
keepDuration = "48h"
maxUsedSpace = "2GB"
[registry."docker.io"]
mirrors = ["mirror.example"]
[otel]
socketPath = "/run/otel.sock"
""",
    )
    assert found.root == Path("/elsewhere")
    assert found.addresses == ("unix:///run/a.sock", "tcp://0.0.0.0:1234")
    assert (found.group, found.tls) == ("5", Tls("/c", "/k", "/ca"))
    assert found.entitlements == ("network.host",)
    assert found.history == HistorySettings(86400, 7)
    assert (found.snapshotter, found.platforms, found.labels) == ("native", ("linux/amd64",), {"team": "blue"})
    assert (found.collects, found.cgroup_parent) == (False, "/builds")
    assert found.policy == (CollectRule(True, ("type==source.local",), 172800 * 10**9, 0, 2 * 10**9, 0),)
    assert found.trace_socket == "/run/otel.sock"
    assert found.warnings == ()


def test_what_it_says_in_vain_is_told(tmp_path: Path) -> None:
    found = parsed(tmp_path, '[log]\nformat = "json"\n[worker.oci]\nmax-parallelism = 4\ncolour = "red"\n')
    assert [warning.partition(": ")[2] for warning in found.warnings] == [
        "log.format has no effect here",
        "worker.oci.max-parallelism has no effect here",
        "worker.oci.colour is not known",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("root = ", "buildkitd.toml"),
        ("root = 5", "root = 5: not a value of this kind"),
        ('[grpc]\naddress = "unix:///a"', "grpc.address"),
        ("[grpc]\naddress = [5]", "must be a list of texts"),
        ('[worker.oci]\ngcpolicy = ["x"]', "gcpolicy must be tables"),
        ('[[worker.oci.gcpolicy]]\nmaxUsedSpace = "much"', "'much' is not a size"),
        ("[worker.oci]\nenabled = false", "leaves no worker"),
        ('[history]\nmaxAge = "long"', "'long' is not a duration"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml: No such file"):
        read(str(tmp_path / "nowhere.toml"), BASE)


@pytest.mark.parametrize(
    ("value", "size"), [(5, 5), ("10", 10), ("2GB", 2 * 10**9), ("1.5k", 1500), ("512MB", 512 * 10**6)]
)
def test_sizes_have_units_of_powers_of_ten(value: object, size: int) -> None:
    assert size_bytes(value, "here") == size


@pytest.mark.parametrize(("value", "seconds"), [(90, 90.0), ("48h", 172800.0), ("1h30m", 5400.0), ("60", 60.0)])
def test_durations_are_seconds_or_text(value: object, seconds: float) -> None:
    assert duration_s(value, "here") == seconds


def test_the_network_of_steps(tmp_path: Path) -> None:
    text = '[worker.oci]\nnetworkMode = "bridge"\nbridgeName = "b0"\ncniPoolSize = 3\ncniBinaryPath = "/cni"\n'
    found = parsed(tmp_path, text).network
    assert (found.mode, found.bridge, found.pool, found.plugin_dirs) == ("bridge", "b0", 3, ("/cni",))
    assert found.cni_config == "/etc/buildkit/cni.json"
    with pytest.raises(UsageError, match="networkMode 'slirp': not known"):
        parsed(tmp_path, '[worker.oci]\nnetworkMode = "slirp"\n')


def test_devices_are_described_where_the_file_says(tmp_path: Path) -> None:
    file = tmp_path / "buildkitd.toml"
    file.write_text('[cdi]\nspecDirs = ["/a", "/b"]\n')
    found = read(str(file), DaemonSettings(tmp_path))
    assert found.cdi_dirs == ("/a", "/b")
    assert found.warnings == ()


def test_devices_can_be_switched_off(tmp_path: Path) -> None:
    assert parsed(tmp_path, "[cdi]\ndisabled = false\n").gives_devices
    off = parsed(tmp_path, "[cdi]\ndisabled = true\n")
    assert (off.gives_devices, off.warnings) == (False, ())
