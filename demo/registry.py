"""`knarr registry serve` with TLS and a login, on loopback, known by a name on a private domain."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

_START_S = 10.0


class Registry:
    """The registry `address`, below the directory `work`."""

    def __init__(self, work: Path, host: str) -> None:
        self._work = work
        self._host = host
        self._port = _free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.address = f"{host}:{self._port}"
        self.login = ("demo", secrets.token_urlsafe(16))

    def make_certificates(self) -> None:
        """A CA, and a server certificate that it signs."""
        pki = self._work / "pki"
        shutil.rmtree(pki, ignore_errors=True)
        pki.mkdir(parents=True)
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self._openssl("req", "-x509", *key, "-subj", "/CN=demo CA", "-days", "2", "-keyout", "ca.key", "-out", "ca.crt")
        self._openssl("req", *key, "-subj", f"/CN={self._host}", "-keyout", "server.key", "-out", "server.csr")
        (pki / "names").write_text(f"subjectAltName=DNS:{self._host}\nextendedKeyUsage=serverAuth\n")
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        self._openssl("x509", "-req", "-in", "server.csr", *sign, "-out", "server.crt")

    def _openssl(self, *argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=self._work / "pki", check=True, stderr=subprocess.DEVNULL)

    def trust_in(self, hosts_dir: Path) -> None:
        """Put the CA where knarr (KNARR_HOSTS_DIR), docker, podman and skopeo look for it."""
        directory = hosts_dir / self.address
        directory.mkdir(parents=True)
        shutil.copy(self._work / "pki/ca.crt", directory / "ca.crt")

    def start(self) -> None:
        """Start with an empty storage, and wait until it answers."""
        shutil.rmtree(self._work / "registry", ignore_errors=True)
        user, password = self.login
        made = subprocess.run(["htpasswd", "-niB", user], input=password, capture_output=True, text=True, check=True)
        (self._work / "htpasswd").write_text(made.stdout)
        pki = self._work / "pki"
        command = [sys.executable, "-m", "knarr", "registry", "serve", f"--listen=127.0.0.1:{self._port}"]
        command += [f"--tls-cert={pki}/server.crt", f"--tls-key={pki}/server.key", f"--htpasswd={self._work}/htpasswd"]
        # A store of its own, as on a machine of its own.
        env = {**os.environ, "KNARR_ROOT": str(self._work / "registry")}
        with (self._work / "registry.log").open("wb") as log:
            self._server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while not _answers(self._port):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"demo: the registry did not start: {self._work}/registry.log")
            time.sleep(0.05)
        print(f"listening at https://{self.address}")

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
