"""containerd imports, runs and exports what we build; a containerd of our own, apart from the machine's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Shipped, run, service

pytestmark = [pytest.mark.root, pytest.mark.system]

Ctr = Callable[..., str]


@pytest.fixture(scope="session")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctr]:
    place = tmp_path_factory.mktemp("ctd")
    config = place / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{place}/sock"\n[ttrpc]\naddress = "{place}/sock.ttrpc"\n'
    )
    with service(["containerd", "--config", str(config)], place / "sock", place / "log"):
        yield lambda *argv: run("ctr", "--address", f"{place}/sock", *argv)


def container() -> str:
    return f"interop-{os.getpid()}"


@pytest.mark.parametrize("form", ["oci", "docker", "zstd"])
def test_it_runs_what_it_imported(ctr: Ctr, shipped: Shipped, form: str) -> None:
    ctr("images", "import", "--snapshotter", "native", str(getattr(shipped, form)))
    said = ctr("run", "--rm", "--snapshotter", "native", "--net-host", shipped.name, container())
    assert said == shipped.said


def test_its_overlayfs_takes_our_whiteouts(ctr: Ctr, shipped: Shipped) -> None:
    ctr("images", "import", "--snapshotter", "overlayfs", str(shipped.oci))
    assert ctr("run", "--rm", "--net-host", shipped.name, container()) == shipped.said


def test_it_keeps_the_digest_and_gives_it_back(ctr: Ctr, shipped: Shipped, tmp_path: Path) -> None:
    ctr("images", "import", "--all-platforms", "--snapshotter", "native", str(shipped.both))
    listed = ctr("images", "ls", f"name=={shipped.name}").splitlines()[1].split()
    ctr("images", "export", "--all-platforms", str(tmp_path / "out.tar"), shipped.name)
    assert listed[3:4] != []
    raw = run("skopeo", "--insecure-policy", "inspect", "--raw", f"oci-archive:{tmp_path / 'out.tar'}")
    ours = run("skopeo", "--insecure-policy", "inspect", "--raw", f"oci-archive:{shipped.both}")
    assert raw == ours
    architectures = [one["platform"]["architecture"] for one in json.loads(raw)["manifests"]]
    assert architectures == ["amd64", "arm64", "unknown", "unknown"]  # the last two are attestations
