"""Programs that we did not write push to `knarr registry serve` and pull from it, over TLS or not, with a login."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import run, service

pytestmark = pytest.mark.system

USER, PASSWORD = "ann", "s3cret, with: colon"


@dataclass(frozen=True)
class Served:
    host: str
    certs: Path  # a directory as podman and skopeo want it
    login: str
    process: subprocess.Popen[str]


Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts `knarr registry serve` as a user does; the second word is its state directory."""
    processes = []

    def start(*flags: str | Path, root: Path) -> Served:
        pki = _pki(root)
        subprocess.run(["htpasswd", "-Bbc", str(root / "htpasswd"), USER, PASSWORD], check=True, capture_output=True)
        command = [sys.executable, "-m", "knarr", "registry", "serve", "--listen=127.0.0.1:0"]
        process = subprocess.Popen(
            [*command, f"--htpasswd={root}/htpasswd", *map(str, flags)],
            env={**os.environ, "KNARR_ROOT": str(root / "state")},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving http"), line + process.stderr.read()
        return Served(line.split("/")[2], pki, f"{USER}:{PASSWORD}", process)

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20) == (None, "stopped\n")
        assert process.returncode == 0


@pytest.fixture(scope="session")
def secure(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Served:
    root = tmp_path_factory.mktemp("secure")
    _pki(root)
    return serve(f"--tls-cert={root}/server.pem", f"--tls-key={root}/server.key", root=root)


def test_skopeo_copies_an_image_of_two_platforms_in_and_out(
    secure: Served, busybox_layout: Path, tmp_path: Path
) -> None:
    there = f"docker://{secure.host}/team/busybox:v1"
    _skopeo("copy", "-q", "--all", f"--dest-cert-dir={secure.certs}", f"--dest-creds={secure.login}",
            f"oci:{busybox_layout}:latest", there)  # fmt: skip
    back = tmp_path / "back"
    _skopeo("copy", "-q", "--all", f"--src-cert-dir={secure.certs}", f"--src-creds={secure.login}",
            there, f"oci:{back}:latest")  # fmt: skip
    assert _index(back) == _index(busybox_layout)
    tags = _skopeo(
        "list-tags", f"--cert-dir={secure.certs}", f"--creds={secure.login}", f"docker://{secure.host}/team/busybox"
    )
    assert json.loads(tags)["Tags"] == ["v1"]


def test_skopeo_deletes(secure: Served, busybox_layout: Path) -> None:
    there = f"docker://{secure.host}/team/gone:v1"
    flags = (f"--cert-dir={secure.certs}", f"--creds={secure.login}")
    _skopeo("copy", "-q", f"--dest-cert-dir={secure.certs}", f"--dest-creds={secure.login}",
            f"oci:{busybox_layout}:latest", there)  # fmt: skip
    _skopeo("delete", *flags, there)
    with pytest.raises(AssertionError, match=r"manifest unknown|not in this repository"):
        _skopeo("inspect", *flags, there)


def test_skopeo_without_a_login_is_told_so(secure: Served) -> None:
    with pytest.raises(AssertionError, match=r"authentication required|unauthorized"):
        _skopeo("inspect", f"--cert-dir={secure.certs}", "--no-creds", f"docker://{secure.host}/team/busybox:v1")


@pytest.mark.root
def test_podman_pushes_what_it_loaded_and_pulls_it_again(secure: Served, busybox_layout: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="pmr-", dir="/tmp"))  # podman takes no runroot of more than 50 characters
    podman = ("podman", f"--root={place}/root", f"--runroot={place}/run", "--storage-driver=vfs")
    name = f"{secure.host}/podman/app:v1"
    remote = ("-q", f"--cert-dir={secure.certs}", f"--creds={secure.login}")
    try:
        loaded = run(*podman, "pull", "-q", f"oci:{busybox_layout}:latest").strip()
        run(*podman, "tag", loaded, name)
        run(*podman, "push", *remote, name)
        run(*podman, "rmi", "-a", "-f")
        assert run(*podman, "pull", *remote, name).strip() == loaded
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.root
def test_docker_logs_in_pushes_and_pulls(serve: Serve, busybox_layout: Path, tmp_path: Path) -> None:
    served = serve(root=tmp_path)  # plain HTTP: loopback needs no entry in a file of the machine's
    archive = tmp_path / "busybox.tar"
    name = f"{served.host}/docker/app:v1"
    _skopeo("copy", "-q", f"oci:{busybox_layout}:latest", f"docker-archive:{archive}:{name}")
    place = Path(tempfile.mkdtemp(prefix="dkr-", dir="/tmp"))
    (place / "none.json").write_text("{}")
    command = [
        *("unshare", "--mount", "--propagation=private"),
        *("dockerd", "--host", f"unix://{place}/sock", "--pidfile", f"{place}/pid"),
        *("--config-file", f"{place}/none.json", "--data-root", f"{place}/root", "--exec-root", f"{place}/exec"),
        *("--storage-driver", "vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"),
    ]
    docker = ("docker", "--config", place / "config", "--host", f"unix://{place}/sock")
    try:
        with service(command, place / "sock", place / "log"):
            run(*docker, "load", "-q", "-i", archive)
            run(*docker, "login", "-u", USER, "-p", PASSWORD, served.host)
            pushed = run(*docker, "push", name)
            run(*docker, "rmi", "-f", name)
            pulled = run(*docker, "pull", name)
            digest = pushed.rpartition("digest: ")[2].split()[0]
            assert f"Digest: {digest}" in pulled
            assert "Mounted from" not in pushed
            run(*docker, "tag", name, f"{served.host}/docker/other:v1")
            assert "Layer already exists" in (again := run(*docker, "push", name)) or "Mounted" in again
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _skopeo(*words: str | Path) -> str:
    return run("skopeo", "--insecure-policy", *words)


def _index(layout: Path) -> str:
    listed = json.loads((layout / "index.json").read_text())["manifests"]
    return str(listed[0]["digest"])


def _pki(root: Path) -> Path:
    """A CA and a certificate for 127.0.0.1 under `root`; returns a directory with the CA in it."""
    certs = root / "certs"
    if certs.exists():
        return certs
    certs.mkdir()
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    (root / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for words in (
        ("req", "-x509", *ec, "-keyout", "ca.key", "-out", "certs/ca.crt", "-subj", "/CN=A Test CA"),
        ("req", *ec, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"),
        ("x509", "-req", "-in", "server.csr", "-CA", "certs/ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
         "-extfile", "ext", "-out", "server.pem"),
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=root, check=True, capture_output=True)
    return certs
