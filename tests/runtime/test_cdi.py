from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import RuntimeFailed
from knarr.runtime import cdibundle
from knarr.runtime.cdi import read_devices


def write(directory: Path, name: str, **spec: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(json.dumps({"cdiVersion": "0.6.0", "kind": "v.com/c", **spec}))
    return directory


def device(name: str, **edits: Any) -> dict[str, Any]:
    return {"name": name, "containerEdits": {"env": [f"D={name}"], **edits}}


def test_a_later_directory_goes_before_an_earlier_one(tmp_path: Path) -> None:
    one = write(tmp_path / "one", "a.json", devices=[device("x"), device("y")])
    two = write(tmp_path / "two", "a.json", devices=[device("x", env=["D=two"])])
    table = read_devices([one, two, tmp_path / "none"])
    assert {name: found.edits["env"] for name, found in table.devices.items()} == {
        "v.com/c=x": ["D=two"],
        "v.com/c=y": ["D=y"],
    }


def test_a_device_that_one_directory_describes_twice_is_unusable(tmp_path: Path) -> None:
    place = write(tmp_path / "one", "a.json", devices=[device("x"), device("y")])
    write(place, "b.json", devices=[device("x")])
    table = read_devices([place])
    assert list(table.devices) == ["v.com/c=y"]
    assert "v.com/c=x is described twice" in table.broken[0]


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "nokind", "devices": []},
        {"kind": "../x/y", "devices": []},
        {"devices": [{"name": "../x", "containerEdits": {}}]},
        {"devices": [{"name": "x"}]},
        {"devices": [device("x", env=["=x"])]},
        {"devices": [device("x", mounts=[{"hostPath": "rel", "containerPath": "/x"}])]},
        {"devices": [device("x", deviceNodes=[{"hostPath": "/x"}])]},
        {"devices": [device("x", hooks=[{"hookName": "never", "path": "/x"}])]},
        {"devices": [device("x", newThing=1)]},
        {"devices": "x"},
        {"devices": None},
    ],
)
def test_a_specification_that_cannot_be_meant_is_told_and_left_out(tmp_path: Path, spec: Mapping[str, Any]) -> None:
    place = write(tmp_path / "cdi", "a.json", **spec)
    write(place, "b.json", devices=[device("good")])
    (place / "c.yaml").write_text("a: [")
    (place / "d.json").write_bytes(b"\xff")
    (place / "README").write_text("no specification")
    table = read_devices([place])
    assert list(table.devices) == ["v.com/c=good"]
    assert [text.partition(":")[0][-6:] for text in table.broken] == ["a.json", "c.yaml", "d.json"]


def configuration(uid: int = 0) -> dict[str, Any]:
    user = {"uid": uid, "gid": uid, "additionalGids": [uid]}
    return {"process": {"env": ["A=1"], "user": user}, "linux": {"resources": {"devices": []}}}


def test_nodes_are_as_here_where_the_specification_is_silent(tmp_path: Path) -> None:
    nodes = [{"path": "/dev/n", "hostPath": "/dev/null", "permissions": "rw"}, {"path": "/dev/zero"}]
    place = write(tmp_path / "cdi", "a.json", devices=[device("x", deviceNodes=nodes)])
    made = configuration(uid=7)
    cdibundle.add(made, read_devices([place]).find("v.com/c"), bind_nodes=False)
    assert [(d["path"], d["type"], d["major"], d["minor"], d["uid"]) for d in made["linux"]["devices"]] == [
        ("/dev/n", "c", 1, 3, 7),
        ("/dev/zero", "c", 1, 5, 7),
    ]
    assert [(d["minor"], d["access"]) for d in made["linux"]["resources"]["devices"]] == [(3, "rw"), (5, "rwm")]
    assert made["process"]["env"] == ["A=1", "D=x"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"path": "/dev/none-such"}, "device /dev/none-such: No such file"),
        ({"path": "/etc/passwd"}, "device /etc/passwd: is no device"),
        ({"path": "/dev/null", "type": "b"}, "is of the type c, not b"),
    ],
)
def test_a_node_that_is_not_there(tmp_path: Path, node: Mapping[str, Any], message: str) -> None:
    place = write(tmp_path / "cdi", "a.json", devices=[device("x", deviceNodes=[node])])
    with pytest.raises(RuntimeFailed, match=message):
        cdibundle.add(configuration(), read_devices([place]).find("v.com/c=x"), bind_nodes=False)
