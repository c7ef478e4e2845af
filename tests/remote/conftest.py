"""Real far ends for the registry client: Debian's docker-registry, a private CA, and the fault-injecting registry."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from knarr.remote.repository import Registry
from knarr.remote.settings import RegistrySettings, RetryBudget
from knarr.session.session import Credentials

from .fakeregistry import FakeRegistry


@dataclass(frozen=True)
class Certificates:
    """A private CA and what it signed, made with openssl."""

    ca: Path
    directory: Path

    def issue(self, name: str, *, names: str, days: int = 30) -> tuple[Path, Path]:
        """A certificate and its key; `names` as openssl's subjectAltName; negative `days`: already expired."""
        key, request, certificate = (self.directory / f"{name}.{end}" for end in ("key", "csr", "pem"))
        _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")(
            "-keyout", key, "-out", request, "-subj", f"/CN={name}"
        )
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\n")
        sign = _openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key")
        sign("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", certificate)
        return certificate, key


def _openssl(*first: object) -> Callable[..., None]:
    def run(*more: object) -> None:
        subprocess.run(["openssl", *map(str, (*first, *more))], check=True, capture_output=True)

    return run


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("pki")
    ca = directory / "ca.pem"
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30")(
        "-keyout", directory / "ca.key", "-out", ca, "-subj", "/CN=Knarr Test CA"
    )
    return Certificates(ca, directory)


@dataclass(frozen=True)
class RealRegistry:
    """A running docker-registry."""

    port: int
    scheme: str
    storage: Path

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


StartRegistry = Callable[..., RealRegistry]
Connect = Callable[..., Registry]
FAST = RetryBudget(first_wait_s=0.01)


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry in this process, well-behaved until told otherwise."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes clients (`connect(settings, login=…)`) and closes them behind the test."""
    with ExitStack() as opened:

        def make(
            settings: RegistrySettings | None = None, login: Credentials | None = None, **more: object
        ) -> Registry:
            known = login or Credentials()
            client = Registry(
                settings or RegistrySettings(hosts_dirs=(), retry=FAST, read_timeout_s=5.0), lambda _: known, **more
            )  # type: ignore[arg-type]
            return opened.enter_context(client)

        yield make


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Starts docker-registry: `start_registry(tls=(cert, key), login=("user", "password"))`."""
    assert shutil.which("docker-registry"), "Debian's docker-registry is missing: apt-get install docker-registry"
    with ExitStack() as running:

        def start(*, tls: tuple[Path, Path] | None = None, login: tuple[str, str] | None = None) -> RealRegistry:
            port = _free_port()
            home = tmp_path / f"registry-{port}"
            home.mkdir()
            config = home / "config.yml"
            config.write_text(_config(home, port, tls, login))
            log = running.enter_context((home / "log").open("wb"))
            process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
            running.callback(process.wait)
            running.callback(process.kill)
            _await_port(port, process)
            return RealRegistry(port, "https" if tls else "http", home / "data")

        yield start


def _config(home: Path, port: int, tls: tuple[Path, Path] | None, login: tuple[str, str] | None) -> str:
    text = f"""version: 0.1
log: {{accesslog: {{disabled: true}}, level: warn}}
storage: {{filesystem: {{rootdirectory: {home}/data}}, delete: {{enabled: true}}}}
http:
  addr: 127.0.0.1:{port}
"""
    if tls:
        text += f"  tls: {{certificate: {tls[0]}, key: {tls[1]}}}\n"
    if login:
        made = subprocess.run(["htpasswd", "-Bbn", *login], check=True, capture_output=True)
        (home / "htpasswd").write_bytes(made.stdout)
        text += f"auth: {{htpasswd: {{realm: test, path: {home}/htpasswd}}}}\n"
    return text


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "docker-registry ended at once"
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("docker-registry does not listen after 4 s")
