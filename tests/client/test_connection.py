"""Whether a builder is reached, and what a person is told when it is not."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conftest import free_port
from tests.daemon.conftest import Running, running
from tests.daemon.test_server import make_certificates

pytestmark = [pytest.mark.root, pytest.mark.system]
Knarr = Callable[..., str]


@pytest.fixture
def empty(tmp_path: Path) -> str:
    place = tmp_path / "empty"
    place.mkdir()
    (place / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    return str(place)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A daemon that takes only clients with a certificate: its address, and where the certificates are."""
    place = tmp_path_factory.mktemp("tls")
    make_certificates(place)
    address = f"tcp://127.0.0.1:{free_port()}"
    files = (("cert", "s.crt"), ("key", "s.key"), ("cacert", "ca.crt"))
    flags = [f"--tls{name}={place}/{file}" for name, file in files]
    with running(place / "root", "--addr", address, *flags):
        yield address, place


def test_certificates_of_one_authority_meet(
    knarr: Knarr, secured: tuple[str, Path], empty: str, tmp_path: Path
) -> None:
    address, place = secured
    words = (f"--tlscacert={place}/ca.crt", f"--tlscert={place}/c.crt", f"--tlskey={place}/c.key")
    name = ("--tlsservername=localhost",)
    knarr("build", "--builder", address, *words, *name, "-o", "type=cacheonly", empty)
    for file, at in (("ca.crt", "ca"), ("c.crt", "cert"), ("c.key", "key")):
        shutil.copy(place / file, tmp_path / f"{at}.pem")
    knarr("builder", "create", "--name", "far", "--use", f"--tlsdir={tmp_path}", *name, address)
    knarr("build", "-o", "type=cacheonly", empty)
    assert "running" in knarr("builder", "ls")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "speaks TLS"),
        (("--tlscacert={}/ca.crt", "--tlsservername=localhost"), "wants to see a client certificate"),
        (("--tlscacert={}/ca.crt", "--tlsservername=other.example"), "is not trusted: .*other.example"),
        (("--tlscert={}/c.crt", "--tlskey={}/c.key", "--tlsservername=localhost"), "is not trusted"),
    ],
)
def test_each_mistake_with_certificates_is_told_apart(
    knarr: Knarr, secured: tuple[str, Path], empty: str, words: tuple[str, ...], message: str
) -> None:
    import re

    address, place = secured
    said = knarr("build", "--builder", address, *(word.format(place) for word in words), empty, status=1)
    assert re.search(message, said) or (not words and "hangs up without a word" in said), said
    assert "hint: " in said


def test_a_certificate_of_a_stranger_is_refused(
    knarr: Knarr, secured: tuple[str, Path], empty: str, tmp_path: Path
) -> None:
    address, place = secured
    make_certificates(tmp_path)
    words = (f"--tlscacert={place}/ca.crt", f"--tlscert={tmp_path}/c.crt", f"--tlskey={tmp_path}/c.key")
    said = knarr("build", "--builder", address, *words, "--tlsservername=localhost", empty, status=1)
    assert "refuses our certificate" in said


def test_certificates_for_a_builder_without_tls(
    knarr: Knarr, empty: str, secured: tuple[str, Path], tmp_path: Path
) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with running(tmp_path / "plain", "--addr", address):
        said = knarr("build", "--builder", address, f"--tlscacert={secured[1]}/ca.crt", empty, status=1)
    assert f"builder {address} does not speak TLS" in said


def test_files_that_are_no_certificates(knarr: Knarr, empty: str) -> None:
    wrong = ("--builder", "tcp://127.0.0.1:1", "--tlscacert")
    assert "No such file" in knarr("build", *wrong, f"{empty}/none.pem", empty, status=2)
    assert "needs its key" in knarr("build", *wrong[:2], f"--tlscert={empty}/Dockerfile", empty, status=2)
    said = knarr("build", "--builder", "unix:///x", f"--tlscacert={empty}/Dockerfile", empty, status=2)
    assert "without an address over TCP" in said


@contextmanager
def web() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def other_grpc() -> Iterator[str]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


@pytest.mark.parametrize(
    ("place", "message"),
    [(web, "is no buildkitd: it answers"), (other_grpc, "speaks gRPC, but is no buildkitd")],
)
def test_what_is_no_buildkitd_is_told_as_such(knarr: Knarr, empty: str, place: Any, message: str) -> None:
    with place() as address:
        assert message in knarr("build", "--builder", address, empty, status=1)


def test_nobody_there_no_such_host_no_such_program(
    knarr: Knarr, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = knarr("build", "--builder", f"unix://{tmp_path}/none.sock", empty, status=1)
    assert f"no builder listens at unix://{tmp_path}/none.sock: No such file or directory" in nobody
    assert "there is no such host" in knarr("build", "--builder", "tcp://nohost.invalid:1", empty, status=1)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "kubectl is not installed" in knarr("build", "--builder", "kube-pod://pod", empty, status=1)


def test_what_a_program_said_is_passed_on(
    knarr: Knarr, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    said = knarr("build", "--builder", f"ssh://127.0.0.1:{port}", empty, status=1)
    assert "cannot be reached through ssh: ssh: connect to host 127.0.0.1" in said


@pytest.fixture
def ssh_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An ssh server that lets this user in with a key, and an ssh program that knows it."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    port = free_port()
    (tmp_path / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nPermitRootLogin yes\nPasswordAuthentication no\nUsePAM no\n"
        f"SetEnv PATH={tmp_path}/far\n"
    )
    public = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {public}")
    (tmp_path / "config").write_text(f"Host *\nIdentityFile {tmp_path}/user\nUserKnownHostsFile {tmp_path}/known\n")
    (tmp_path / "far").mkdir()
    near = tmp_path / "near"
    near.mkdir()
    (near / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    (near / "ssh").chmod(0o755)
    os.makedirs("/run/sshd", exist_ok=True)
    server = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", tmp_path / "sshd"])
    monkeypatch.setenv("PATH", f"{near}:{os.environ['PATH']}")
    try:
        _wait_until_it_listens(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def _wait_until_it_listens(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "sshd does not listen"
            time.sleep(0.05)


def test_through_ssh_with_knarr_on_the_far_side(
    knarr: Knarr, own_daemon: Running, ssh_port: int, empty: str, tmp_path: Path
) -> None:
    import sys

    far = tmp_path / "far/knarr"
    far.write_text(f'#!/bin/sh\nPYTHONPATH={Path(__file__).parents[2]}/src exec {sys.executable} -m knarr "$@"\n')
    far.chmod(0o755)
    address = f"ssh://root@127.0.0.1:{ssh_port}{own_daemon.socket}"
    knarr("build", "--builder", address, "-o", f"type=local,dest={tmp_path}/out", empty)
    assert (tmp_path / "out/Dockerfile").exists()
