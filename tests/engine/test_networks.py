"""Builds whose steps have networks of their own, by the bridge that is built in and by a CNI configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.aftermath import assert_nothing_left, eventually, running
from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]

BRIDGE = f"ke{os.getpid()}"
SUBNET = f"10.{os.getpid() % 80 + 10}.{os.getpid() % 250}.0/24"


@pytest.fixture(autouse=True)
def network(knarr: Knarr) -> Iterator[None]:
    knarr.env |= {"KNARR_NETWORK": "bridge", "KNARR_BRIDGE": BRIDGE, "KNARR_SUBNET": SUBNET}
    yield
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


def members() -> list[str]:
    """The interfaces that hang on the bridge."""
    told = subprocess.check_output(["ip", "-j", "link", "show", "master", BRIDGE])
    return [link["ifname"] for link in json.loads(told or b"[]")]


def test_steps_of_all_platforms_have_addresses_of_the_bridge(knarr: Knarr) -> None:
    text = "FROM busybox\nRUN ip -4 addr show eth0 | grep inet > /a\nRUN --network=none ip link > /n\n"
    place = knarr.work / "out.d"
    output = f"--output=type=local,dest={place}"
    knarr.run(*knarr.command(text, "--platform=linux/amd64,linux/arm64", output))
    addresses = {(place / platform / "a").read_text().split()[1] for platform in ("linux_amd64", "linux_arm64")}
    assert len(addresses) == 2
    assert all(address.startswith(SUBNET.rpartition(".")[0]) for address in addresses)
    assert "eth0" not in (place / "linux_amd64/n").read_text()
    assert members() == []
    assert_nothing_left(knarr)


def test_a_killed_build_leaves_no_address_behind(knarr: Knarr) -> None:
    with running(knarr, *knarr.command("FROM busybox\nRUN sleep 1000\n")) as build:
        eventually(lambda: os.path.exists(f"/sys/class/net/{BRIDGE}") and members(), "a network")
        build.end(signal.SIGKILL)
    knarr.run(*knarr.command("FROM busybox\nRUN true\n"))
    assert members() == []
    assert not [name for name in os.listdir(knarr.root / "networks" / BRIDGE) if name[0].isdigit()]
    assert_nothing_left(knarr)


def test_a_configuration_is_used_and_its_failures_are_told(knarr: Knarr) -> None:
    path = knarr.work / "cni.json"
    knarr.env |= {"KNARR_NETWORK": "auto", "KNARR_CNI_CONFIG": str(path)}
    dockerfile = "FROM busybox\nRUN ip link show eth0 > /eth0\n"
    path.write_text('{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "nosuchplugin"}]}')
    failed = knarr.run(*knarr.command(dockerfile), check=False)
    assert failed.returncode == 1
    words = 'error: process "/bin/sh -c ip link show eth0 > /eth0" did not complete successfully: '
    assert f"{words}the CNI plugin nosuchplugin is not in " in failed.stderr
    assert "Dockerfile.test:2" in failed.stderr
    path.write_text("[]")
    assert "not a CNI configuration: it is no object" in knarr.run(*knarr.command(dockerfile), check=False).stderr
    plugin = {"type": "bridge", "bridge": BRIDGE, "ipam": {"type": "host-local", "dataDir": str(knarr.work / "given")}}
    plugin["ipam"]["subnet"] = SUBNET  # type: ignore[index]
    path.write_text(json.dumps({"cniVersion": "0.4.0", "name": "n", "plugins": [plugin]}))
    assert b"eth0" in knarr.build(dockerfile).contents["eth0"]
    assert_nothing_left(knarr)
