"""The protocol with plugins: programs of the tests' own that note what they are asked."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import RuntimeFailed
from knarr.network import plugins
from knarr.network.conflist import Network
from knarr.record import replace

NOTING = """#!/bin/sh
cat > {log}/$(basename $0).$CNI_COMMAND
echo "$CNI_COMMAND $(basename $0) $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME" >> {log}/order
if [ $CNI_COMMAND = {fails_at} ]; then {failing}; fi
[ $CNI_COMMAND = DEL ] || echo '{{"cniVersion": "1.0.0", "made": "'$(basename $0)'"}}'
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "bin").mkdir()
    return tmp_path


def plugin(place: Path, name: str, fails_at: str = "never", failing: str = "exit 1") -> None:
    path = place / "bin" / name
    path.write_text(NOTING.format(log=place / "log", fails_at=fails_at, failing=failing))
    path.chmod(0o755)


def network(*kinds: str, **more: Any) -> Network:
    return Network("net", "1.0.0", tuple({"type": kind, **more} for kind in kinds), "net.conflist")


def order(place: Path) -> list[str]:
    return (place / "log/order").read_text().splitlines()


def told(place: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "log" / name).read_text())
    return found


def test_plugins_are_asked_in_order_and_backwards(place: Path) -> None:
    for name in ("one", "two"):
        plugin(place, name)
    places = ["/nowhere", str(place / "bin")]
    result = plugins.add(network("one", "two", keep="x"), "id", "/ns", places)
    assert result["made"] == "two"
    assert plugins.delete(network("one", "two"), "id", "", places, result) == []
    assert order(place) == [
        *("ADD one id /ns eth0", "ADD two id /ns eth0"),
        *("DEL two id  eth0", "DEL one id  eth0"),
    ]
    assert told(place, "one.ADD") == {"type": "one", "keep": "x", "name": "net", "cniVersion": "1.0.0"}
    assert told(place, "two.ADD")["prevResult"]["made"] == "one"
    assert told(place, "one.DEL")["prevResult"]["made"] == "two"


def test_plugins_are_told_what_a_network_says_of_who_joins(place: Path) -> None:
    plugin(place, "one")
    (place / "bin/one").write_text('#!/bin/sh\nprintf \'{"args": "%s"}\' "$CNI_ARGS"\n')
    asked = replace(network("one"), arguments=(("IgnoreUnknown", "1"), ("K8S_POD_NAME", "db")))
    assert plugins.add(asked, "id", "/ns", [str(place / "bin")]) == {"args": "IgnoreUnknown=1;K8S_POD_NAME=db"}
    assert plugins.add(network("one"), "id", "/ns", [str(place / "bin")]) == {"args": ""}


def test_only_plugins_that_have_a_capability_are_told_of_it(place: Path) -> None:
    plugin(place, "maps")
    plugin(place, "plain")
    chain = Network("net", "1.0.0", ({"type": "maps", "capabilities": {"portMappings": True}}, {"type": "plain"}))
    plugins.add(chain, "id", "/ns", [str(place / "bin")], {"portMappings": [{"hostPort": 80}]})
    assert told(place, "maps.ADD")["runtimeConfig"] == {"portMappings": [{"hostPort": 80}]}
    assert "runtimeConfig" not in told(place, "plain.ADD")


@pytest.mark.parametrize(
    ("failing", "words"),
    [
        ("""echo '{"code": 7, "msg": "no address", "details": "all taken"}'; exit 1""", "no address: all taken"),
        ("echo broken >&2; exit 3", "broken"),
        ("exit 4", "exit status 4"),
        ("echo no json; exit 0", "gave no result: no json"),
        ("""echo '{"msg": "exec: \\"iptables\\": not found"}'; exit 1""", "iptables"),
    ],
)
def test_what_the_first_plugins_did_is_undone_when_a_later_one_fails(place: Path, failing: str, words: str) -> None:
    plugin(place, "one")
    plugin(place, "two", "ADD", failing)
    with pytest.raises(RuntimeFailed, match=words) as caught:
        plugins.add(network("one", "two"), "id", "/ns", [str(place / "bin")])
    assert "network net (net.conflist): plugin two" in caught.value.message
    assert ("apt-get install iptables" in caught.value.hint) == (words == "iptables")
    assert order(place)[2:] == ["DEL two id /ns eth0", "DEL one id /ns eth0"]


def test_all_are_asked_to_delete_whatever_one_says(place: Path) -> None:
    plugin(place, "one")
    plugin(place, "two", "DEL", "exit 1")
    (failed,) = plugins.delete(network("one", "two"), "id", "/ns", [str(place / "bin")], {})
    assert "plugin two failed to DEL" in str(failed)
    assert order(place)[-1] == "DEL one id /ns eth0"


def test_a_plugin_that_is_not_there_is_named_with_a_way_out(place: Path) -> None:
    (place / "bin/one").write_text("not a program")
    with pytest.raises(RuntimeFailed, match="the CNI plugin one is not in /nowhere") as caught:
        plugins.add(network("one"), "id", "/ns", ["/nowhere", str(place / "bin")])
    assert "containernetworking-plugins" in caught.value.hint


def test_a_plugin_that_hangs_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_TIMEOUT_S", 0.2)
    plugin(place, "one", "ADD", "exec sleep 60")
    with pytest.raises(RuntimeFailed, match="did not answer ADD for 0 seconds"):
        plugins.add(network("one"), "id", "/ns", [str(place / "bin")])
    assert os.path.exists(place / "log/one.DEL")
