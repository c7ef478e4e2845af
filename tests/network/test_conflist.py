"""Networks as they are described in files, well and badly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.network import conflist


def described(**said: object) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}], **said}).encode()


def test_a_directory_stands_for_its_first_file(tmp_path: Path) -> None:
    (tmp_path / "20-b.conflist").write_bytes(described(name="second"))
    (tmp_path / "10-a.conf").write_text('{"name": "first", "type": "loopback"}')
    (tmp_path / "00-note.txt").write_text("not a network")
    network = conflist.read(str(tmp_path))
    assert (network.name, network.version, network.plugins[0]["type"]) == ("first", "0.2.0", "loopback")
    assert conflist.read(str(tmp_path / "20-b.conflist")).name == "second"


def test_there_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no CNI network is described here"):
        conflist.read(str(tmp_path))
    with pytest.raises(UsageError, match="No such file"):
        conflist.read(str(tmp_path / "none.conflist"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"name": "a b"}, "'a b' is no name of a network"),
        ({"name": None}, "None is no name of a network"),
        ({"cniVersion": "9.9.9"}, "cniVersion '9.9.9' is not known"),
        ({"plugins": []}, "it names no plugin"),
        ({"plugins": "bridge"}, "it names no plugin|is no type of a plugin"),
        ({"plugins": [{}]}, "None is no type of a plugin"),
        ({"plugins": [{"type": "../../bin/sh"}]}, "is no type of a plugin"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_file(said: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=rf"net.json: not a CNI configuration: .*({told})"):
        conflist.parse(described(**said), "net.json")


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), lambda c: st.lists(c)).map(json.dumps))
def test_no_input_is_taken_or_crashes(raw: bytes | str) -> None:
    with pytest.raises(UsageError):
        conflist.parse(raw.encode() if isinstance(raw, str) else raw, "x")


def test_the_built_in_bridge(tmp_path: Path) -> None:
    network = conflist.bridge("knarr0", "10.1.0.0/16", tmp_path)
    first, second = network.plugins
    assert (first["bridge"], first["ipam"]["dataDir"], second["type"]) == ("knarr0", str(tmp_path), "firewall")
    six = conflist.bridge("knarr0", "fd00::/64", tmp_path)
    assert six.plugins[0]["ipam"]["routes"] == [{"dst": "::/0"}]
    for name, subnet in (
        ("a name", "10.1.0.0/16"),
        ("sixteencharacters", "10.1.0.0/16"),
        ("b", "10.1.0.0/31"),
        ("b", "x"),
    ):
        with pytest.raises(UsageError):
            conflist.bridge(name, subnet, tmp_path)
