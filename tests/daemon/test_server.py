"""A daemon's life: who may have the state directory, how it stops, what it leaves."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from knarr.buildkit.service import Caller
from knarr.daemon.control import CONTROL
from knarr.errors import KnarrError
from knarr.pb import control_pb2 as pb

from .conftest import Builder, Dockerfile, Running, running
from .test_control import wait_for_step

pytestmark = [pytest.mark.root, pytest.mark.system]


def start(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "knarr", "daemon", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_second_one_on_the_same_state_says_who_has_it(daemon: Running, tmp_path: Path) -> None:
    done = start("--root", str(daemon.root), "--addr", f"unix://{tmp_path}/other.sock")
    assert done.returncode == 2
    assert f"another daemon has this state directory: process {daemon.process.pid}" in done.stderr
    assert str(daemon.socket) in done.stderr


def test_a_second_one_at_the_same_address_leaves_the_first_alone(
    daemon: Running, builder: Builder, tmp_path: Path
) -> None:
    done = start("--root", str(tmp_path / "root"), "--addr", f"unix://{daemon.socket}")
    assert done.returncode == 2
    assert "somebody listens there already" in done.stderr
    builder.control.unary("Info", pb.InfoRequest(), timeout_s=10)


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    for address, message in (("http://x", "not an address"), ("tcp://x", "not HOST:PORT"), ("fd://", "no socket")):
        done = start("--root", str(tmp_path / "root"), "--addr", address)
        assert done.returncode == 2
        assert message in done.stderr


def test_its_socket_is_for_root_and_the_group_alone(tmp_path: Path) -> None:
    with running(tmp_path / "root", "--group", "daemon") as daemon:
        found = os.stat(daemon.socket)
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert (found.st_uid, found.st_gid) == (0, 1)
        assert daemon.stop() == 0
    assert not daemon.socket.exists()


def test_it_takes_a_socket_from_systemd(tmp_path: Path) -> None:
    """As systemd.socket(5) hands it over: the listening socket is file descriptor 3."""
    code = """if True:
        import os, socket, sys
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(sys.argv[1])
        listener.listen()
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    """
    place = tmp_path / "given.sock"
    words = ["-m", "knarr", "daemon", "--root", str(tmp_path / "root"), "--addr", "fd://"]
    process = subprocess.Popen([sys.executable, "-c", code, str(place), *words], stderr=subprocess.PIPE)
    try:
        with grpc.insecure_channel(f"unix:{place}") as channel:
            grpc.channel_ready_future(channel).result(30)
            Caller(channel, CONTROL).unary("Info", pb.InfoRequest(), timeout_s=10)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_its_state_may_lie_where_names_are_long(bases: object, tmp_path: Path, context: Path) -> None:
    from tests.buildkit.client import Client

    make_certificates(tmp_path)
    flags = [f"--tlscert={tmp_path}/s.crt", f"--tlskey={tmp_path}/s.key", "--addr=tcp://127.0.0.1:0"]
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}  # type: ignore[attr-defined]
    root = tmp_path / ("long-name-" * 8) / "root"
    root.mkdir(parents=True)
    place = tmp_path / "d"  # the socket for clients has no room there, either
    with running(place, *flags, "--root", str(root), environ=environ) as daemon, daemon.channel() as channel:
        lent = {"context": context, "dockerfile": context}
        with Client(channel, tmp_path, directories=lent) as client:
            assert Builder(daemon, client, channel).build() == {}


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        with running(tmp_path / "root", environ={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as daemon:
            assert listener.recv(100) == b"READY=1"
            assert daemon.stop() == 0
        assert listener.recv(100) == b"STOPPING=1"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("unit", ["knarr.service", "knarr.socket", "knarr-serve.service"])
def test_the_units_are_right(unit: str, tmp_path: Path) -> None:
    for path in (Path(__file__).parents[2] / "examples/systemd").iterdir():
        text = path.read_text().replace("/usr/local/bin/knarr", sys.executable)
        (tmp_path / path.name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "knarr" in line]
    assert (done.returncode, told) == (0, [])


def test_certificates_decide_who_may_build(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    flags = [
        f"--tls{name}={tmp_path}/{file}" for name, file in (("cert", "s.crt"), ("key", "s.key"), ("cacert", "ca.crt"))
    ]
    with running(tmp_path / "root", *flags, "--addr", "tcp://127.0.0.1:0") as daemon:
        port = daemon.log.read_text().partition("tcp://127.0.0.1:")[2].partition(",")[0]
        ca, cert, key = ((tmp_path / name).read_bytes() for name in ("ca.crt", "c.crt", "c.key"))
        assert answers(port, grpc.ssl_channel_credentials(ca, key, cert))
        assert not answers(port, grpc.ssl_channel_credentials(ca))
        assert not answers(port, None)


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed")
def test_sockets_of_systemds_speak_tls_where_there_are_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    names = (("cert", "s.crt"), ("key", "s.key"), ("cacert", "ca.crt"))
    flags = [f"--tls{name}={tmp_path}/{file}" for name, file in names]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    words = [sys.executable, "-m", "knarr", "daemon", "--root", str(tmp_path / "root"), "--addr", "fd://", *flags]
    kept = ["--setenv=PYTHONPATH", "--setenv=PATH", "--setenv=HOME"]
    command = ["systemd-socket-activate", f"--listen=127.0.0.1:{port}", *kept, *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        ca, cert, key = ((tmp_path / name).read_bytes() for name in ("ca.crt", "c.crt", "c.key"))
        deadline = time.monotonic() + 30
        while not (came := answers(port, grpc.ssl_channel_credentials(ca, key, cert))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert came
        assert not answers(port, None)
        process.terminate()
        assert process.wait(30) == 0


def answers(port: str, credentials: grpc.ChannelCredentials | None) -> bool:
    place = f"localhost:{port}"
    channel = grpc.insecure_channel(place) if credentials is None else grpc.secure_channel(place, credentials)
    with channel:
        try:
            Caller(channel, CONTROL).unary("Info", pb.InfoRequest(), timeout_s=10)
        except KnarrError:
            return False
        return True


def make_certificates(place: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=place, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
    for name in ("s", "c"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)


def test_a_build_under_way_may_end_when_the_daemon_is_told_to(
    bases: object, tmp_path: Path, context: Path, dockerfile: Dockerfile
) -> None:
    dockerfile("FROM busybox\nRUN sleep 2 && echo finished\n")
    outcome = stopped_during(bases, tmp_path, context, "sleep 2", "--drain-timeout", "60")
    assert outcome == ["built"]


def test_a_build_that_takes_too_long_is_cancelled_then(
    bases: object, tmp_path: Path, context: Path, dockerfile: Dockerfile
) -> None:
    dockerfile("FROM busybox\nRUN sleep 600\n")
    begun = time.monotonic()
    outcome = stopped_during(bases, tmp_path, context, "sleep 600", "--drain-timeout", "1")
    assert outcome[0] != "built"
    assert time.monotonic() - begun < 60


def stopped_during(bases: object, tmp_path: Path, context: Path, step: str, *flags: str) -> list[str]:
    """What comes of a build when SIGTERM comes while `step` runs. No mount is left."""
    from tests.buildkit.client import Client

    outcome: list[str] = []
    root = tmp_path / "root"
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}  # type: ignore[attr-defined]
    with running(root, *flags, environ=environ) as daemon, daemon.channel() as channel:
        lent = {"context": context, "dockerfile": context}
        with Client(channel, tmp_path, directories=lent) as client:
            builder = Builder(daemon, client, channel)
            request = builder.request()

            def build() -> None:
                try:
                    builder.control.unary("Solve", request, timeout_s=120)
                except BaseException as error:
                    outcome.append(type(error).__name__)
                else:
                    outcome.append("built")

            thread = threading.Thread(target=build)
            thread.start()
            wait_for_step(builder, request.Ref, step)
            daemon.process.terminate()
            thread.join()
        assert daemon.process.wait(60) == 0
    assert str(root) not in Path("/proc/self/mounts").read_text()
    return outcome


def test_a_signal_as_soon_as_it_can_be_found_ends_it_well(tmp_path: Path) -> None:
    place = tmp_path / "d.sock"
    command = [sys.executable, "-m", "knarr", "daemon", "--root", str(tmp_path / "root"), "--addr", f"unix://{place}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not place.exists():
            assert process.poll() is None
        process.terminate()
        assert process.wait(30) == 0
