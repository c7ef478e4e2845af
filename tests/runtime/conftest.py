"""Real containers: busybox trees for this machine and for arm64, and the installed runtimes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knarr.runtime.process import Exit, ProcessSpec
from knarr.runtime.runner import Runtime
from knarr.scope import Scope
from knarr.snapshot.namespace import private_mounts

APPLETS = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> bool:
    """No test's mount is ever the machine's, and crun works on hybrid cgroups."""
    return private_mounts()


def make_root(root: Path, busybox: Path) -> Path:
    """A small image: busybox, two users, and the directories of most base images but no /proc, /sys, /dev."""
    for name in ("bin", "etc", "root", "tmp", "home/app"):
        (root / name).mkdir(parents=True)
    shutil.copy2(busybox, root / "bin/busybox")
    for name in APPLETS:
        if name != "busybox":
            os.symlink("busybox", root / "bin" / name)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1001:\nextra:x:2000:other,app\nlast:x:2001:app\n")
    os.chmod(root / "tmp", 0o1777)
    os.chown(root / "home/app", 1000, 1001)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An image for this machine."""
    return make_root(tmp_path / "tree", Path("/bin/busybox"))


@pytest.fixture(scope="session")
def arm64_busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """busybox for arm64 from the machine's own apt sources."""
    place = tmp_path_factory.mktemp("arm64")
    foreign = subprocess.run(["dpkg", "--print-foreign-architectures"], capture_output=True, text=True, check=True)
    if "arm64" not in foreign.stdout.split():
        subprocess.run(["dpkg", "--add-architecture", "arm64"], check=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
    subprocess.run(["apt-get", "download", "-qq", "busybox-static:arm64"], cwd=place, check=True, capture_output=True)
    subprocess.run(["dpkg-deb", "-x", next(place.glob("*.deb")), place], check=True)
    return next(path for path in (place / "bin/busybox", place / "usr/bin/busybox") if path.exists())


@pytest.fixture
def arm64_tree(tmp_path: Path, arm64_busybox: Path) -> Path:
    """An image for arm64."""
    return make_root(tmp_path / "arm64", arm64_busybox)


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    """Each of the two runtimes; nothing may be left of what a test ran."""
    state = tmp_path / "state"
    runtime = Runtime(state, request.param)
    yield runtime
    runtime.close()
    left = list(state.glob("bundles/*/*")) + list(state.glob("[cr]*n*/*/"))
    assert [path for path in left if path.parent.name != "seccomp"] == []


class Ran:
    """What a step did."""

    def __init__(self, ended: Exit, out: bytes, err: bytes) -> None:
        self.status, self.out_of_memory = ended.status, ended.out_of_memory
        self.at_memory_limit = ended.at_memory_limit
        self.out, self.err = out.decode(), err.decode()


Run = Callable[..., Ran]


@pytest.fixture
def run(runtime: Runtime, tree: Path) -> Run:
    """Run a shell text (or an argument list) in `tree`, with fields of `ProcessSpec`."""

    def call(command: str | list[str], **fields: object) -> Ran:
        args = ("/bin/sh", "-c", command) if isinstance(command, str) else tuple(command)
        spec = ProcessSpec(**{"rootfs": tree, "args": args, **fields})  # type: ignore[arg-type]
        streams = {1: b"", 2: b""}

        def output(stream: int, data: bytes) -> None:
            streams[stream] += data

        with Scope() as scope:
            ended = runtime.run(spec, output=output, scope=scope)
        return Ran(ended, streams[1], streams[2])

    return call


@pytest.fixture(autouse=True)
def plain_umask() -> None:
    os.umask(0o022)
