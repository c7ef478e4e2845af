"""Builders in containers and pods: `docker exec` and `kubectl exec` carry the connection into a real container."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.conftest import Running, running
from tests.interop.conftest import dockerd

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("buildctl") is None, reason="buildctl is not on PATH, and no package of Debian's"),
]
Knarr = Callable[..., str]
_SOCKET = "/run/buildkit/buildkitd.sock"  # where buildctl looks unless it is told


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("daemon") / "root") as found:
        yield found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a container that has `buildctl`, and `sleep` to stay there."""
    root = tmp_path_factory.mktemp("container") / "rootfs"
    for name in ("bin", "run/buildkit", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/sleep")
    shutil.copy(shutil.which("buildctl") or "", root / "bin/buildctl")
    (root / _SOCKET[1:]).touch()
    return root


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    (place / "hello").write_text("hello\n")
    return place


@pytest.fixture
def pod(daemon: Running, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A container of runc's that has the daemon's socket, and a `kubectl` whose only pod it is."""
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    spec = json.loads((tmp_path / "config.json").read_text())
    spec["process"].update(args=["/bin/sleep", "600"], terminal=False)
    spec["root"] = {"path": str(tree), "readonly": True}
    spec["mounts"].append({"destination": _SOCKET, "source": str(daemon.socket), "options": ["bind"]})
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
    (tmp_path / "config.json").write_text(json.dumps(spec))
    runc = ["runc", "--root", str(tmp_path / "state")]
    name = f"pod-{os.getpid()}"
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([*runc, "run", "--detach", name], cwd=tmp_path, stdin=log, stdout=log, stderr=log, check=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "kubectl").write_text(
        '#!/bin/sh\n[ "$1 $2 $3 $4" = "--namespace=build exec -i box" ] || { echo "no such pod: $*" >&2; exit 1; }\n'
        f'shift 5\nexec {" ".join(runc)} exec {name} "$@"\n'
    )
    (programs / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    try:
        yield "kube-pod://build/box"
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=True)


def test_a_pod_builds(knarr: Knarr, pod: str, context: Path, tmp_path: Path) -> None:
    knarr("build", "--builder", pod, "-o", f"type=local,dest={tmp_path}/out", str(context))
    assert (tmp_path / "out/hello").read_text() == "hello\n"
    said = knarr("build", "--builder", "kube-pod://build/other", str(context), status=1)
    assert "no such pod: --namespace=build exec -i other" in said


@pytest.fixture
def container(daemon: Running, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A container of a dockerd of our own that has the daemon's socket."""
    with dockerd(tmp_path) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        archive = subprocess.run(["tar", "-C", str(tree), "-c", "."], capture_output=True, check=True).stdout
        subprocess.run(["docker", "import", "-", "box"], input=archive, capture_output=True, check=True)
        words = ["docker", "run", "-d", "--name", "box", "--network=none", "-v", f"{daemon.socket}:{_SOCKET}", "box"]
        subprocess.run([*words, "/bin/sleep", "600"], capture_output=True, check=True)
        yield "docker-container://box"
        subprocess.run(["docker", "rm", "-f", "box"], capture_output=True, check=True)


def test_a_container_builds(knarr: Knarr, container: str, context: Path, tmp_path: Path) -> None:
    knarr("build", "--builder", container, "-o", f"type=local,dest={tmp_path}/out", str(context))
    assert (tmp_path / "out/hello").read_text() == "hello\n"
    assert "No such container" in knarr("build", "--builder", "docker-container://other", str(context), status=1)
