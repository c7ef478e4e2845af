"""`knarr build` into a containerd, and what ctr and Kubernetes' CRI make of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.containerd.client import Containerd
from tests.conftest import Bases

from .conftest import LINGER, PAUSE, Running
from .cri import Kubelet

pytestmark = [pytest.mark.root, pytest.mark.system]
Knarr = Callable[..., str]
NAME = "registry.example/team/app:1"


@pytest.fixture
def knarr(knarr: Knarr, bases: Bases, running: Running, monkeypatch: pytest.MonkeyPatch) -> Knarr:
    monkeypatch.setenv("KNARR_HOSTS_DIR", str(bases.hosts_dir))
    monkeypatch.setenv("CONTAINERD_ADDRESS", running.address)
    return knarr


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(
        'FROM busybox\nRUN echo "made by knarr" > /motd && rm /bin/vi\nUSER 1234\n'
        f'CMD ["sh", "-c", "cat /motd; id -u; test -e /bin/vi || echo gone{LINGER}"]\n'
    )
    return context


SAID = "made by knarr\n1234\ngone\n"


@pytest.fixture
def kubelet(running: Running) -> Iterator[Kubelet]:
    kubelet = Kubelet(running.address)
    yield kubelet
    kubelet.close()


def test_kubernetes_runs_a_pod_of_what_was_built(
    knarr: Knarr, running: Running, kubelet: Kubelet, context: Path, tmp_path: Path
) -> None:
    pause = tmp_path / "pause"
    pause.mkdir()
    (pause / "Dockerfile").write_text('FROM busybox\nENTRYPOINT ["sleep", "100000"]\n')
    output = "type=containerd,namespace=k8s.io,unpack=true"
    knarr("build", "-t", PAUSE, "--output", f"{output},pinned=true", str(pause))
    knarr("build", "-t", NAME, "--output", "type=containerd,namespace=k8s.io", str(context))
    running.collect("k8s.io")
    assert NAME in kubelet.images()
    assert kubelet.run(NAME, tmp_path) == (0, SAID)


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_ctr_runs_what_is_unpacked_without_its_layers(
    knarr: Knarr, running: Running, daemon: Containerd, context: Path, snapshotter: str
) -> None:
    where = f"namespace={daemon.namespace},unpack=true,snapshotter={snapshotter}"
    knarr("build", "-t", NAME, "--output", f"type=containerd,{where}", str(context))
    running.ctr("content", "prune", "references", namespace=daemon.namespace)
    running.collect(daemon.namespace)
    words = ("run", "--rm", "--snapshotter", snapshotter, NAME, f"c-{os.urandom(3).hex()}")
    assert running.ctr(*words, namespace=daemon.namespace) == SAID


def test_an_image_of_two_platforms_is_kept_whole(
    knarr: Knarr, running: Running, daemon: Containerd, context: Path, tmp_path: Path
) -> None:
    (context / "Dockerfile").write_text("FROM busybox\nCOPY Dockerfile /\n")
    words = ("--platform", "linux/amd64,linux/arm64", "--metadata-file", str(tmp_path / "told"))
    knarr("build", "-t", NAME, *words, "--output", f"type=containerd,namespace={daemon.namespace}", str(context))
    running.collect(daemon.namespace)
    listed = running.ctr("images", "ls", f"name=={NAME}", namespace=daemon.namespace)
    assert json.loads((tmp_path / "told").read_text())["containerimage.digest"] in listed
    running.ctr("images", "export", "--all-platforms", str(tmp_path / "tar"), NAME, namespace=daemon.namespace)


def test_a_base_image_that_only_containerd_has_is_found_when_it_may_be(
    knarr: Knarr,
    running: Running,
    daemon: Containerd,
    context: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONTAINERD_NAMESPACE", daemon.namespace)
    base = "registry.invalid/base:1"
    knarr("build", "-t", base, "--output", "type=containerd", str(context))
    (context / "Dockerfile").write_text(f"FROM {base}\nUSER 0\nRUN echo more >> /motd\n")
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "other"))
    words = ("build", "--containerd", running.address, "-t", NAME)
    assert "not, or not all of it, on this machine" in knarr(
        "build", "--pull=never", "-t", NAME, str(context), status=1
    )
    assert "registry.invalid" in knarr(*words, "--pull", str(context), status=1)
    for how in ("--pull=never", "--pull=missing", "--pull=false"):
        monkeypatch.setenv("KNARR_ROOT", str(tmp_path / how))
        knarr(*words, how, str(context))
        running.ctr("images", "rm", "--sync", NAME, namespace=daemon.namespace)  # it was left there, too


def test_a_base_image_of_which_a_layer_is_gone_is_told(
    knarr: Knarr, running: Running, daemon: Containerd, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERD_NAMESPACE", daemon.namespace)
    base = "registry.invalid/damaged:1"
    knarr("build", "-t", base, "--provenance=false", "--output", "type=containerd", str(context))
    running.ctr("content", "rm", layers_of(running, daemon.namespace)[-1], namespace=daemon.namespace)
    (context / "Dockerfile").write_text(f"FROM {base}\nRUN true\n")
    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "other"))
    said = knarr("build", "--pull=never", "--containerd", running.address, str(context), status=1)
    assert "is not in containerd, or not any more" in said
    assert "Dockerfile:1" in said


def layers_of(running: Running, namespace: str) -> list[str]:
    """The layers that the one manifest in a namespace names."""
    rows = running.ctr("content", "ls", namespace=namespace)
    return re.findall(r"content\.l\.\d+=(sha256:[0-9a-f]{64})", rows)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("namespace=a/b", "not a name"),
        ("address=/nowhere/sock", "there is no such socket"),
        ("unpack=true,snapshotter=nix", "has no snapshotter nix"),
        ("unpack=true,snapshotter=devmapper", "could not load its snapshotter devmapper"),
        ("unpakc=true", "did you mean unpack?"),
    ],
)
def test_what_cannot_be_is_told(knarr: Knarr, context: Path, output: str, text: str) -> None:
    said = knarr("build", "-t", NAME, "--output", f"type=containerd,{output}", str(context), status=_status(output))
    assert text in said


def _status(output: str) -> int:
    return 2 if "=a/b" in output or "unpakc" in output else 1


def test_an_image_there_needs_a_name(knarr: Knarr, context: Path) -> None:
    assert "needs a name" in knarr("build", "--output", "type=containerd", str(context), status=2)
