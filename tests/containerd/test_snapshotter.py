"""A real containerd's snapshotters as ours, and builds on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.containerd.client import Containerd
from knarr.containerd.snapshotter import ContainerdSnapshotter
from knarr.errors import ContentError, NotFound, Unsupported
from knarr.snapshot.mounting import mounted
from knarr.snapshot.namespace import private_mounts
from tests.conftest import Bases
from tests.daemon.conftest import running as running_daemon

from .conftest import LINGER, Running

pytestmark = [pytest.mark.root, pytest.mark.system]
Knarr = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def own_mounts() -> bool:
    return private_mounts()


@pytest.fixture(params=["overlayfs", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driver(running: Running, daemon: Containerd, kind: str, tmp_path: Path) -> Iterator[ContainerdSnapshotter]:
    driver = ContainerdSnapshotter(tmp_path, running.address, daemon.namespace, kind)
    yield driver
    driver.close()


def grow(driver: ContainerdSnapshotter, at: Path, name: str, parent: str | None, files: str) -> None:
    """Commit `name`: the parent's tree with a file for each letter."""
    with mounted(driver.prepare(f"{name}-active", parent), at) as tree:
        for letter in files:
            (tree / letter).write_text(name)
    driver.commit(name, f"{name}-active")


def test_a_chain_grows_and_its_directories_are_known(driver: ContainerdSnapshotter, tmp_path: Path, kind: str) -> None:
    at = tmp_path / "at"
    grow(driver, at, "one", None, "a")
    grow(driver, at, "two", "one", "ab")
    with mounted(driver.view("look", "two"), at) as tree:
        assert {path.name: path.read_text() for path in tree.iterdir()} == {"a": "two", "b": "two"}
    layers = driver.layers("two")
    assert len(layers) == (2 if kind == "overlayfs" else 1)
    assert {path.name for path in layers[0].iterdir()} == {"a", "b"}
    assert driver.upper("two") == (layers[0] if kind == "overlayfs" else None)
    assert driver.layers("one") == ((layers[1],) if kind == "overlayfs" else driver.layers("one"))
    assert [(i.name, i.parent, i.committed) for i in driver.walk() if i.committed] == [
        ("one", None, True),
        ("two", "one", True),
    ]
    assert driver.usage("one").inodes >= 2


def test_what_cannot_be_is_told(driver: ContainerdSnapshotter, tmp_path: Path) -> None:
    grow(driver, tmp_path / "at", "one", None, "a")
    grow(driver, tmp_path / "at", "two", "one", "b")
    driver.prepare("open", "two")
    with pytest.raises(ContentError, match="exists already"):
        driver.prepare("open", "two")
    with pytest.raises(ContentError, match="cannot be a parent"):
        driver.prepare("x", "nobody")
    with pytest.raises(ContentError, match="cannot be a parent"):
        driver.prepare("x", "open")
    with pytest.raises(ContentError, match="cannot be removed"):
        driver.remove("one")
    driver.remove("nobody")
    assert driver.stat("nobody") is None


def test_committing_a_name_again_drops_the_second_tree(driver: ContainerdSnapshotter, tmp_path: Path) -> None:
    grow(driver, tmp_path / "at", "one", None, "a")
    grow(driver, tmp_path / "at", "one", None, "b")
    assert [path.name for path in driver.layers("one")[0].iterdir()] == ["a"]
    assert driver.stat("one-active") is None


def test_the_collector_takes_nothing_that_is_known_here(
    driver: ContainerdSnapshotter, running: Running, daemon: Containerd, tmp_path: Path
) -> None:
    grow(driver, tmp_path / "at", "one", None, "a")
    grow(driver, tmp_path / "at", "layer:sha256:" + 64 * "1", None, "b")
    running.ctr("content", "ls", namespace=daemon.namespace)
    running.collect(daemon.namespace)
    assert {info.name for info in driver.walk()} == {"one", "layer:sha256:" + 64 * "1"}
    listed = running.ctr("snapshots", "--snapshotter", driver.name.partition("-")[2], "ls", namespace=daemon.namespace)
    assert "\nsha256:" + 64 * "1" in listed  # by the name that every client looks for
    driver.remove("layer:sha256:" + 64 * "1")
    assert {info.name for info in driver.walk()} == {"one"}


KILLED = """
import sys
from pathlib import Path
from knarr.containerd.snapshotter import ContainerdSnapshotter
ContainerdSnapshotter(Path(sys.argv[1]), *sys.argv[2:5]).prepare("left", None)
print("ready", flush=True)
sys.stdin.read()
"""


def test_sweep_takes_what_a_killed_process_left_and_nothing_else(
    driver: ContainerdSnapshotter, running: Running, daemon: Containerd, kind: str, tmp_path: Path
) -> None:
    grow(driver, tmp_path / "at", "kept", None, "a")
    driver.prepare("mine", "kept")
    argv = [sys.executable, "-c", KILLED, str(tmp_path), running.address, daemon.namespace, kind]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert driver.sweep() == 0
        process.kill()
    assert driver.sweep() == 1
    assert {info.name for info in driver.walk()} == {"kept", "mine"}


@pytest.mark.parametrize(("name", "error"), [("nix", NotFound), ("devmapper", Unsupported)])
def test_a_snapshotter_that_is_not_there_or_does_not_work_is_told(
    running: Running, tmp_path: Path, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        ContainerdSnapshotter(tmp_path, running.address, "default", name).walk()


DOCKERFILE = """\
FROM busybox AS one
RUN mkdir /d && echo a > /d/a && echo b > /d/b && rm /bin/vi
RUN rm -r /d && mkdir /d && echo c > /d/c && chmod 4755 /d/c && ln /d/c /hard
FROM busybox
COPY --from=one /d /e
COPY --link Dockerfile /f
RUN cat /e/c /f > /g
"""


def test_builds_make_the_same_image_wherever_their_trees_are(
    knarr: Knarr, bases: Bases, running: Running, daemon: Containerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KNARR_HOSTS_DIR", str(bases.hosts_dir))
    monkeypatch.setenv("CONTAINERD_ADDRESS", running.address)
    monkeypatch.setenv("CONTAINERD_NAMESPACE", daemon.namespace)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    found = {}
    for where in ("overlayfs", "native", "containerd", "containerd:native"):
        monkeypatch.setenv("KNARR_SNAPSHOTTER", where)
        monkeypatch.setenv("KNARR_ROOT", str(tmp_path / f"state{len(found)}"))
        words = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000", "--metadata-file", str(tmp_path / "told"))
        knarr("build", *words, "-o", "type=image,rewrite-timestamp=true", str(context))
        found[where] = json.loads((tmp_path / "told").read_text())["containerimage.digest"]
        assert "ok       snapshots" in knarr("doctor", "--store")
        knarr("prune", "-af")
    assert len(set(found.values())) == 1, found
    running.collect(daemon.namespace)


def test_the_daemon_builds_on_containerd_and_leaves_its_images_there(
    bases: Bases, running: Running, daemon: Containerd, buildx_program: str, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    flags = (
        *("--oci-worker=false", "--containerd-worker=true", "--containerd-worker-addr", running.address),
        *("--containerd-worker-namespace", daemon.namespace),
    )
    env = {**os.environ, "BUILDX_CONFIG": str(tmp_path / "buildx")}
    with running_daemon(tmp_path / "root", *flags, environ={"KNARR_HOSTS_DIR": str(bases.hosts_dir)}) as served:
        for words in (
            ("create", "--name", "ctd", "--driver", "remote", f"unix://{served.socket}"),
            ("build", "--builder=ctd", "-o", "type=image,name=registry.example/by/daemon:1", str(context)),
        ):
            subprocess.run([buildx_program, *words], env=env, check=True, capture_output=True)
    run = ("run", "--rm", "registry.example/by/daemon:1", f"c-{os.urandom(3).hex()}", "sh", "-c", "head -1 /g" + LINGER)
    assert running.ctr(*run, namespace=daemon.namespace) == "c\n"
