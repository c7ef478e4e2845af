"""What the suite's integration tests share: a registry of Debian's and base images made from Debian packages.

No image comes from outside: busybox for amd64 and arm64 is unpacked from the
busybox-static packages of the machine's own apt sources, and pushed by skopeo to a
docker-registry that stands in for docker.io as a mirror (as users with a private
mirror configure it). Both are made once for all xdist workers.
"""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import debian_bases  # tools/
import newer_package  # tools/


@dataclass(frozen=True)
class Bases:
    """A plain-HTTP registry with `docker.io/library/busybox`, and a hosts directory that leads docker.io to it."""

    address: str
    hosts_dir: Path
    layout: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def busybox_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OCI layout with a two-platform busybox, kept beside pytest's own temporary directories between runs."""
    cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-bases"
    cache.mkdir(exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return debian_bases.busybox(cache)


@pytest.fixture(scope="session")
def bases(busybox_layout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bases]:
    """A running registry with busybox in it, for reading and for pushing to."""
    work = tmp_path_factory.mktemp("registry")
    port = free_port()
    address = f"127.0.0.1:{port}"
    config = work / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {work}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    with open(work / "log", "wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait_until_up(f"http://{address}/v2/")
        subprocess.run(
            [
                *("skopeo", "--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false"),
                *(f"oci:{busybox_layout}:latest", f"docker://{address}/library/busybox:latest"),
            ],
            check=True,
        )
        hosts = work / "certs.d"
        (hosts / "docker.io").mkdir(parents=True)
        (hosts / "docker.io/hosts.toml").write_text(f'server = "http://{address}"\n')
        yield Bases(address, hosts, busybox_layout)
    finally:
        server.terminate()
        server.wait()


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture(scope="session")
def buildx_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _program("docker-buildx", tmp_path_factory)


@pytest.fixture(scope="session")
def oras_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _program("oras", tmp_path_factory)


@pytest.fixture(scope="session")
def cosign_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _program("cosign", tmp_path_factory)


def _program(name: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program as it is installed, or else out of the next Debian, kept between runs."""
    installed = shutil.which(name)
    if installed is not None:
        return installed
    cache = tmp_path_factory.getbasetemp().parent.parent / "knarr-test-programs"
    cache.mkdir(exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return str(newer_package.program(cache, name))


@pytest.fixture
def knarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in this process, on a state directory of its own; gives its standard output.

    `status` is the exit status it has to have; of a failure its errors are given, too.
    """
    from knarr.cli import main

    monkeypatch.setenv("KNARR_ROOT", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for variable in ("KNARR_BUILDER", "BUILDKIT_HOST"):
        monkeypatch.delenv(variable, raising=False)

    def run(*argv: str, status: int = 0) -> str:
        capfd.readouterr()
        found = main(list(argv))
        out, err = capfd.readouterr()
        assert found == status, err
        return out if status == 0 else out + err

    return run
