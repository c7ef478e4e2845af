"""Networks of their own for real steps, with the real plugins of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from knarr.errors import RuntimeFailed
from knarr.network import conflist, plugins, steps
from knarr.network.namespace import Namespace
from knarr.network.steps import Networks

pytestmark = [pytest.mark.root, pytest.mark.system]

BRIDGE = f"kt{os.getpid()}"
SUBNET = f"10.{os.getpid() % 90 + 90}.{os.getpid() % 250}.0/24"


@pytest.fixture(scope="module", autouse=True)
def bridge_is_removed() -> Iterator[None]:
    yield
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)


@pytest.fixture
def network(tmp_path: Path) -> conflist.Network:
    return conflist.bridge(BRIDGE, SUBNET, tmp_path / "addresses")


def inside(path: str, *argv: str) -> str:
    return subprocess.run(["nsenter", f"--net={path}", *argv], capture_output=True, text=True, check=True).stdout


def leases(tmp_path: Path) -> set[str]:
    place = tmp_path / "addresses" / BRIDGE
    return {path.name for path in place.iterdir() if path.name[0].isdigit()} if place.exists() else set()


def veths() -> int:
    return len(json.loads(subprocess.check_output(["ip", "-j", "link", "show", "master", BRIDGE]) or b"[]"))


def test_a_step_gets_an_address_and_gives_it_back(network: conflist.Network, tmp_path: Path) -> None:
    networks = Networks(network, plugins.PLACES, tmp_path / "state")
    with networks.lent() as lent:
        assert lent.addresses[0] in inside(lent.path, "ip", "-4", "addr", "show", "eth0")
        assert "UP" in inside(lent.path, "ip", "link", "show", "lo")
        assert leases(tmp_path) == set(lent.addresses)
    assert (leases(tmp_path), veths()) == (set(), 0)
    networks.close()
    assert os.listdir(tmp_path / "state/owners") == []


def test_two_at_once_have_two_and_what_is_kept_is_used_again(network: conflist.Network, tmp_path: Path) -> None:
    networks = Networks(network, plugins.PLACES, tmp_path / "state", keep=1)
    with networks.lent() as one, networks.lent() as two:
        assert len({*one.addresses, *two.addresses}) == 2
    with networks.lent() as again:
        assert again.addresses in (one.addresses, two.addresses)
        assert len(leases(tmp_path)) == 1
    networks.close()
    assert (leases(tmp_path), veths()) == (set(), 0)


@pytest.mark.parametrize(("name", "told"), [("db-1.example", ["K8S_POD_NAME", "db-1.example"]), ("a;B=c", None)])
def test_a_name_goes_to_the_plugins_and_its_namespace_to_nobody_else(
    network: conflist.Network, tmp_path: Path, name: str, told: list[str] | None
) -> None:
    networks = Networks(network, plugins.PLACES, tmp_path / "state", keep=1)
    with networks.lent(name=name):
        (note,) = (path for path in (tmp_path / "state").rglob("knarr-*") if path.is_file())
        assert (told in json.loads(note.read_text())["arguments"]) == (told is not None)
    assert veths() == (1 if told is None else 0)  # one is kept for the next step
    networks.close()


def test_a_failed_network_leaves_nothing(network: conflist.Network, tmp_path: Path) -> None:
    broken = conflist.Network("net", "1.0.0", (*network.plugins, {"type": "nosuchplugin"}))
    networks = Networks(broken, plugins.PLACES, tmp_path / "state")
    with pytest.raises(RuntimeFailed, match="nosuchplugin"), networks.lent():
        raise AssertionError
    networks.close()
    assert (leases(tmp_path), os.listdir(tmp_path / "state")) == (set(), ["owners"])


KILLED = """
import sys
from pathlib import Path
from knarr.network import conflist, plugins
from knarr.network.steps import Networks
name, subnet, place = sys.argv[1:]
networks = Networks(conflist.bridge(name, subnet, Path(place) / "addresses"), plugins.PLACES, Path(place) / "state")
with networks.lent():
    print("lent", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_had_is_taken_back(network: conflist.Network, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", KILLED, BRIDGE, SUBNET, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lent\n"
        assert steps.sweep(tmp_path / "state") == 0  # it lives
        process.send_signal(signal.SIGKILL)
    assert len(leases(tmp_path)) == 1
    assert steps.sweep(tmp_path / "state") == 1
    assert (leases(tmp_path), os.listdir(tmp_path / "state/owners")) == (set(), [])


def test_a_namespace_may_belong_to_another_user_namespace_also_in_a_process_that_speaks_grpc() -> None:
    with grpc.insecure_channel("unix:/nowhere") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/a/b")(b"", timeout=0.2)  # from now on a fork has threads of its own
    with subprocess.Popen(["unshare", "--user", "--map-root-user", "sleep", "60"]) as other:
        try:
            owner = f"/proc/{other.pid}/ns/user"
            while os.readlink(owner) == os.readlink("/proc/self/ns/user"):
                pass
            with Namespace(owner) as namespace:
                assert "UP" in inside(namespace.path, "ip", "link", "show", "lo")
                argv = ["nsenter", f"--user={owner}", f"--net={namespace.path}", "ip", "link", "set", "lo", "down"]
                subprocess.run(argv, check=True)
        finally:
            other.kill()
