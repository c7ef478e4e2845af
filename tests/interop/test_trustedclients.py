"""Every client we know of, over TLS from a private authority that `knarr pki trust install` made known, with a login.

All of it happens in a mount namespace with an /etc of its own, over the machine's, so
the files are where the clients look for them and none of them is given a path.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port

pytestmark = [pytest.mark.root, pytest.mark.system]

NAME = "registry.corp.example"  # not localhost, to which many clients speak HTTP
USER, PASSWORD = "ann", "s3cret, with: colon"
_OVERLAY = 'mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$1"'
_CONTAINERD = """\
version = 2
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{place}/sock"
[ttrpc]
address = "{place}/sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "/etc/containerd/certs.d"
"""


class Machine:
    """A machine on which a private authority is trusted, with a registry; its own but for /etc and the trust in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.host = f"{NAME}:{free_port()}"
        self._started: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "HOME": str(place / "home"),
            "KNARR_ROOT": str(place / "state"),
            "KNARR_PKI": str(place / "pki"),
            "DOCKER_CONFIG": str(place / "home/.docker"),
            "REGISTRY_AUTH_FILE": str(place / "auth.json"),
        }
        (place / "home").mkdir()
        self._namespace = subprocess.Popen(["unshare", "--mount", "--propagation=private", "sleep", "100000"])
        self._started.append(self._namespace)
        self._until(lambda: os.stat(self._mounts()).st_ino != os.stat("/proc/self/ns/mnt").st_ino)
        for number, directory in enumerate(("/etc", "/usr/local/share")):
            layer = place / f"overlay{number}"
            for name in ("upper", "work"):
                (layer / name).mkdir(parents=True)
            self.run("sh", "-ec", _OVERLAY, "sh", directory, str(layer))
        self.run("sh", "-c", f"echo 127.0.0.1 {NAME} >> /etc/hosts")

    def _mounts(self) -> str:
        return f"/proc/{self._namespace.pid}/ns/mnt"

    def _words(self, argv: tuple[str | Path, ...]) -> list[str]:
        return ["nsenter", f"--mount={self._mounts()}", *map(str, argv)]

    def run(self, *argv: str | Path, given: str = "", fails: bool = False) -> str:
        """What a program there writes; when it fails against expectation, the test does."""
        done = subprocess.run(
            self._words(argv), env=self.env, input=given, capture_output=True, text=True, timeout=180, check=False
        )
        said = f"{done.stdout}\n{done.stderr}"
        assert (done.returncode != 0) is fails, f"{argv}: {done.returncode}\n{said}"
        return said if fails else done.stdout

    def knarr(self, *argv: str | Path, given: str = "") -> str:
        return self.run(sys.executable, "-m", "knarr", *argv, given=given)

    def start(self, *argv: str | Path, socket: Path | None = None) -> None:
        """A program that runs there until the end."""
        with open(self.place / "log", "ab") as log:
            process = subprocess.Popen(
                self._words(argv), env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._started.append(process)
        if socket is not None:
            self._until(socket.exists)

    def _until(self, is_so: object) -> None:
        deadline = time.monotonic() + 60
        while not is_so():  # type: ignore[operator]  # a call without arguments
            assert time.monotonic() < deadline, (self.place / "log").read_text()[-2000:]
            time.sleep(0.05)

    def close(self) -> None:
        for process in reversed(self._started):
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def machine(busybox_layout: Path) -> Iterator[Machine]:
    place = Path(tempfile.mkdtemp(prefix="tc-", dir="/tmp"))  # podman takes no runroot of more than 50 characters
    machine = Machine(place)
    try:
        machine.knarr("pki", "init")
        machine.knarr("pki", "server", NAME, "--out", place / "issued")
        machine.knarr("pki", "trust", "install", machine.host)
        subprocess.run(["htpasswd", "-Bbc", place / "users", USER, PASSWORD], check=True, capture_output=True)
        pair = (f"--tls-cert={place}/issued/cert.pem", f"--tls-key={place}/issued/key.pem")
        served = (f"--listen={machine.host.replace(NAME, '127.0.0.1')}", *pair, f"--htpasswd={place}/users")
        machine.start(sys.executable, "-m", "knarr", "registry", "serve", *served)
        machine._until(lambda: "serving https" in (place / "log").read_text())
        machine.knarr("login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
        machine.knarr("copy", "-q", f"oci:{busybox_layout}", f"{machine.host}/base/busybox:1")
        yield machine
    finally:
        machine.close()
        shutil.rmtree(place, ignore_errors=True)


def digest(machine: Machine, name: str) -> str:
    """What the registry says a name leads to."""
    return machine.knarr("manifest", f"{machine.host}/{name}", "--format", "{{.Digest}}").strip()


@pytest.fixture
def containers(machine: Machine) -> tuple[str, ...]:
    place = machine.place / "c"
    return (f"--root={place}/root", f"--runroot={place}/run", "--storage-driver=vfs")


def test_podman(machine: Machine, containers: tuple[str, ...]) -> None:
    podman = ("podman", *containers, "--events-backend=file", "--cgroup-manager=cgroupfs")
    (machine.place / "nobody.json").write_text("{}")
    nobody = ("env", f"REGISTRY_AUTH_FILE={machine.place}/nobody.json")
    said = machine.run(*nobody, *podman, "pull", "-q", f"{machine.host}/base/busybox:1", fails=True)
    assert "unauthorized" in said
    machine.run(*podman, "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    image = machine.run(*podman, "pull", "-q", f"{machine.host}/base/busybox:1").strip()
    machine.run(*podman, "push", "-q", image, f"{machine.host}/podman/app:1")
    machine.run(*podman, "rmi", "-af")
    assert machine.run(*podman, "pull", "-q", f"{machine.host}/podman/app:1").strip() == image


def test_buildah(machine: Machine, containers: tuple[str, ...]) -> None:
    buildah = ("buildah", *containers)
    machine.run(*buildah, "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    work = machine.run(*buildah, "from", f"{machine.host}/base/busybox:1").strip()
    machine.run(*buildah, "config", "--label", "by=buildah", work)
    machine.run(*buildah, "commit", "-q", work, f"docker://{machine.host}/buildah/app:1")
    told = machine.knarr("pull", "-q", f"{machine.host}/buildah/app:1").strip()
    assert "buildah" in machine.knarr("inspect", "--config", told.rpartition("@")[2] or told)


def test_skopeo(machine: Machine) -> None:
    machine.run("skopeo", "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    source, target = (f"docker://{machine.host}/{name}:1" for name in ("base/busybox", "skopeo/app"))
    machine.run("skopeo", "--insecure-policy", "copy", "-q", "--all", source, target)
    assert digest(machine, "skopeo/app:1") == digest(machine, "base/busybox:1")


def test_docker(machine: Machine) -> None:
    place = machine.place / "d"
    place.mkdir()
    (place / "none.json").write_text("{}")
    machine.start(
        *("dockerd", "--host", f"unix://{place}/sock", "--pidfile", f"{place}/pid"),
        *("--config-file", f"{place}/none.json", "--data-root", f"{place}/root", "--exec-root", f"{place}/exec"),
        *("--storage-driver", "vfs", "--bridge=none", "--iptables=false", "--ip6tables=false"),
        socket=place / "sock",
    )
    docker = ("docker", "--config", place / "config", "--host", f"unix://{place}/sock")
    machine.run(*docker, "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    machine.run(*docker, "pull", "-q", f"{machine.host}/base/busybox:1")
    machine.run(*docker, "tag", f"{machine.host}/base/busybox:1", f"{machine.host}/docker/app:1")
    machine.run(*docker, "push", "-q", f"{machine.host}/docker/app:1")
    machine.run(*docker, "rmi", "-f", f"{machine.host}/docker/app:1")
    assert digest(machine, "docker/app:1") in machine.run(*docker, "pull", f"{machine.host}/docker/app:1")


def test_containerd_by_ctr_and_as_a_kubelet_asks(machine: Machine) -> None:
    from tests.containerd.cri import Kubelet

    place = machine.place / "k"
    place.mkdir()
    (place / "config.toml").write_text(_CONTAINERD.format(place=place))
    machine.start("containerd", "--config", place / "config.toml", socket=place / "sock")
    ctr = ("ctr", "--address", place / "sock", "images")
    access = ("--hosts-dir", "/etc/containerd/certs.d", "--user", f"{USER}:{PASSWORD}")
    machine.run(*ctr, "pull", "--all-platforms", *access, f"{machine.host}/base/busybox:1")
    machine.run(*ctr, "tag", f"{machine.host}/base/busybox:1", f"{machine.host}/ctr/app:1")
    machine.run(*ctr, "push", *access, f"{machine.host}/ctr/app:1")
    assert digest(machine, "ctr/app:1") == digest(machine, "base/busybox:1")
    kubelet = Kubelet(str(place / "sock"))
    try:
        kubelet.pull(f"{machine.host}/ctr/app:1", USER, PASSWORD)
        assert f"{machine.host}/ctr/app:1" in kubelet.images()
    finally:
        kubelet.close()


def test_oras(machine: Machine, oras_program: str) -> None:
    machine.run(oras_program, "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    (machine.place / "sbom.json").write_text("{}")
    there = f"{machine.host}/base/busybox:1"
    sbom = f"{machine.place}/sbom.json:application/json"
    machine.run(
        oras_program, "attach", "--disable-path-validation", "--artifact-type", "application/x.sbom", there, sbom
    )
    assert "application/x.sbom" in machine.run(oras_program, "discover", there)
    machine.run(oras_program, "copy", "--recursive", there, f"{machine.host}/oras/app:1")
    listed = machine.knarr("referrers", f"{machine.host}/oras/app:1")
    assert "application/x.sbom" in listed
    machine.run(oras_program, "copy", there, "--to-oci-layout", f"{machine.place}/layout:1")
    entries = json.loads((machine.place / "layout/index.json").read_text())["manifests"]
    assert digest(machine, "base/busybox:1") in [entry["digest"] for entry in entries]


def test_cosign(machine: Machine, cosign_program: str) -> None:
    name = f"{machine.host}/base/busybox:1"
    cosign = ("env", "COSIGN_PASSWORD=secret", cosign_program)
    machine.run(*cosign, "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    machine.run(*cosign, "generate-key-pair", "--output-key-prefix", machine.place / "cosign")
    key = (machine.place / "cosign.key", machine.place / "cosign.pub")
    machine.run(*cosign, "sign", "--yes", "--tlog-upload=false", "--key", key[0], name)
    said = machine.run(*cosign, "verify", "--insecure-ignore-tlog", "--key", key[1], name)
    assert digest(machine, "base/busybox:1") in said
    sbom = machine.place / "cosign-sbom.json"
    sbom.write_text("{}")
    attest = ("attest", "--yes", "--tlog-upload=false", "--type", "cyclonedx", "--predicate", sbom, "--key", key[0])
    machine.run(*cosign, *attest, name)
    machine.run(*cosign, "verify-attestation", "--insecure-ignore-tlog", "--type", "cyclonedx", "--key", key[1], name)
    machine.run(*cosign, "copy", name, f"{machine.host}/cosign/app:1")
    machine.run(*cosign, "verify", "--insecure-ignore-tlog", "--key", key[1], f"{machine.host}/cosign/app:1")


@pytest.mark.skipif(not shutil.which("crane"), reason="crane, a Go program of Google's, is not on PATH")
def test_crane(machine: Machine) -> None:
    machine.run("crane", "auth", "login", "-u", USER, "--password-stdin", machine.host, given=PASSWORD)
    machine.run("crane", "copy", f"{machine.host}/base/busybox:1", f"{machine.host}/crane/app:1")
    assert machine.run("crane", "digest", f"{machine.host}/crane/app:1").strip() == digest(machine, "base/busybox:1")
    machine.run("crane", "pull", f"{machine.host}/crane/app:1", machine.place / "crane.tar")


def test_buildx_with_knarr_s_daemon(machine: Machine, buildx_program: str) -> None:
    socket = machine.place / "b/sock"
    machine.start(
        *(sys.executable, "-m", "knarr", "daemon", "--addr", f"unix://{socket}", "--root", machine.place / "b/root"),
        socket=socket,
    )
    context = machine.place / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {machine.host}/base/busybox:1\nRUN echo x > /x\n")
    buildx = ("env", f"BUILDX_CONFIG={machine.place}/buildx", buildx_program)
    machine.run(*buildx, "create", "--name", "knarr", "--driver", "remote", f"unix://{socket}")
    name = f"{machine.host}/buildx/app:1"
    platforms = "linux/amd64,linux/arm64"
    machine.run(*buildx, "build", "--builder=knarr", "--platform", platforms, "--push", "-t", name, context)
    assert "linux/arm64" in machine.run(*buildx, "imagetools", "inspect", "--builder=knarr", name)


def test_without_the_trust_a_client_refuses(machine: Machine) -> None:
    flags = (f"--src-cert-dir={machine.place}/home", "--src-creds", f"{USER}:{PASSWORD}")
    machine.run("rm", "-r", f"/etc/docker/certs.d/{machine.host}", f"/etc/containers/certs.d/{machine.host}")
    machine.knarr("pki", "trust", "remove", machine.host)
    words = ("skopeo", "--insecure-policy", "copy", *flags, f"docker://{machine.host}/base/busybox:1", "dir:/nowhere")
    assert "certificate signed by unknown authority" in machine.run(*words, fails=True)
