"""Several builders as one: who builds what, and one index of it all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from knarr.client.farm import FarmNode, spread
from knarr.spec.platform import Platform
from tests.daemon.conftest import Running, running

Knarr = Callable[..., str]
AMD, ARM, RISCV = map(Platform.parse, ("linux/amd64", "linux/arm64", "linux/riscv64"))


@pytest.mark.parametrize(
    ("told", "said", "wanted", "expected"),
    [
        (((), ()), ((AMD, ARM), (ARM, AMD)), (AMD, ARM), ((AMD,), (ARM,))),
        (((), ()), ((AMD, ARM), (AMD, RISCV)), (AMD, ARM, RISCV), ((AMD, ARM), (RISCV,))),
        (((AMD,), (ARM,)), ((), ()), (ARM, AMD), ((AMD,), (ARM,))),
        (((), (AMD,)), ((AMD,), ()), (AMD,), ((), (AMD,))),
        (((), ()), ((AMD,), (AMD,)), (RISCV,), ((RISCV,), ())),
        (((), ()), ((AMD,), (ARM,)), (), ((), ())),
    ],
)
def test_platforms_go_where_they_are_at_home(told: Any, said: Any, wanted: Any, expected: Any) -> None:
    nodes = [FarmNode(f"n{number}", cast("Any", None), platforms) for number, platforms in enumerate(told)]
    shares = spread(wanted, nodes, lambda node: said[nodes.index(node)])
    assert tuple(shares.get(node, ()) for node in nodes) == expected


@pytest.fixture(scope="module")
def second(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("second") / "root"
    with running(root, environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as found:
        yield found


@pytest.fixture
def farm(knarr: Knarr, own_daemon: Running, second: Running) -> str:
    create = ("builder", "create", "--name", "farm", "--platform")
    knarr(*create, "linux/amd64", f"unix://{own_daemon.socket}")
    knarr(*create, "linux/arm64", "--append", f"unix://{second.socket}")
    return "farm"


@pytest.mark.root
@pytest.mark.system
def test_two_nodes_make_one_index(
    knarr: Knarr, farm: str, bases: Any, busybox: str, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text(f"FROM {busybox}\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch\nCOPY hello /\n")
    both, name = "--platform=linux/amd64,linux/arm64", f"{bases.address}/farm/app:1"
    told = ("--metadata-file", str(tmp_path / "told"))
    knarr("build", "--builder", farm, both, "-t", name, "--push", "--load", *told, str(context))
    index = json.loads(knarr("manifest", name, "--raw"))
    built = [entry["platform"]["architecture"] for entry in index["manifests"]]
    assert [name for name in built if name != "unknown"] == ["amd64", "arm64"]
    digest = json.loads((tmp_path / "told").read_text())["containerimage.digest"]
    assert digest in knarr("inspect", name)
    knarr("build", "--builder", farm, both, "-o", f"type=local,dest={tmp_path}/out", str(context))
    assert (tmp_path / "out/linux_amd64/arch").read_text() == "amd64\n"
    assert (tmp_path / "out/linux_arm64/arch").read_text() == "arm64\n"


@pytest.mark.root
@pytest.mark.system
def test_what_nodes_cannot_make_together_is_refused(knarr: Knarr, farm: str, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    both = ("build", "--builder", farm, "--platform=linux/amd64,linux/arm64", str(context))
    said = knarr(*both, "-o", f"type=oci,dest={tmp_path}/x.tar", status=1)
    assert "type=oci: the nodes of a builder cannot write one output together" in said
    said = knarr(*both, "--cache-to", f"type=local,dest={tmp_path}/c", status=1)
    assert "would write over each other's cache" in said
    knarr("build", "--builder", farm, "--platform=linux/arm64", "-o", f"type=oci,dest={tmp_path}/x.tar", str(context))
