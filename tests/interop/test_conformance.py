"""The official conformance program of the OCI distribution specification against `knarr registry serve`.

It is a Go program: `go build` in the folder conformance of opencontainers/distribution-spec,
put on PATH as `oci-conformance`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import run

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        not shutil.which("oci-conformance"), reason="oci-conformance, a Go program of the OCI, is not on PATH"
    ),
]
VERSIONS = [("1.1", "false"), ("dev", "true")]
USER, PASSWORD = "ann", "s3cret, with: colon"


@dataclass(frozen=True)
class Served:
    host: str
    state: Path
    env: dict[str, str] = field(default_factory=dict)  # what the program is told beyond the address


@contextmanager
def served(root: Path, *flags: str | Path, env: dict[str, str]) -> Iterator[Served]:
    """`knarr registry serve` as a user starts it."""
    command = [sys.executable, "-m", "knarr", "registry", "serve", "--listen=127.0.0.1:0", *map(str, flags)]
    process = subprocess.Popen(
        command, env={**os.environ, "KNARR_ROOT": str(root / "state")}, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving http"), line + process.stderr.read()
        yield Served(line.split("/")[2], root / "state", env)
    finally:
        process.terminate()
        assert process.communicate(timeout=20) == (None, "stopped\n")


@pytest.fixture(scope="module", params=["plain", "tls", "login", "token"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The ways to serve; all but the first behind a certificate from `knarr pki`."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "plain":
        with served(root, env={"OCI_TLS": "disabled"}) as plain:
            yield plain
        return
    pki = {**os.environ, "KNARR_PKI": str(root / "pki")}
    run(sys.executable, "-m", "knarr", "pki", "init", env=pki)
    run(sys.executable, "-m", "knarr", "pki", "server", "127.0.0.1", "--out", root / "issued", env=pki)
    flags: list[str | Path] = [f"--tls-cert={root}/issued/cert.pem", f"--tls-key={root}/issued/key.pem"]
    env = {"OCI_TLS": "enabled", "SSL_CERT_FILE": str(root / "pki/ca.pem")}
    if request.param != "tls":
        subprocess.run(["htpasswd", "-Bbc", root / "users", USER, PASSWORD], check=True, capture_output=True)
        env |= {"OCI_USERNAME": USER, "OCI_PASSWORD": PASSWORD}
        if request.param == "login":
            flags.append(f"--htpasswd={root}/users")
        else:
            (root / "registry.toml").write_text(f'[auth]\nhtpasswd = "{root}/users"\ntokens = true\n')
            flags.append(f"--config={root}/registry.toml")
    with served(root, *flags, env=env) as behind:
        yield behind


def counted(server: Served, version: str, sparse: str, results: Path) -> dict[str, int]:
    """How many tests had which result."""
    asked = {"OCI_REGISTRY": server.host, "OCI_VERSION": version, "OCI_DATA_SPARSE": sparse}
    said = run("oci-conformance", env={**os.environ, **server.env, **asked, "OCI_RESULTS_DIR": str(results)})
    lines = (line.replace(".", " ").split(":", 1) for line in said.splitlines() if line.startswith("  "))
    found = {pair[0].strip(): pair[1].strip() for pair in lines if len(pair) == 2}
    return {name: int(found[name]) for name in ("Pass", "Skip", "FAIL", "Error")}


def is_whole(found: dict[str, int]) -> bool:
    return found["Pass"] > 800 and not (found["Skip"] or found["FAIL"] or found["Error"])


@pytest.mark.parametrize(("version", "sparse"), VERSIONS)
@pytest.mark.parametrize("collecting", [False, True], ids=["", "while-collecting"])
def test_the_conformance_program_finds_nothing_to_complain_of_twice_on_one_store(
    server: Served, collecting: bool, version: str, sparse: str, tmp_path: Path
) -> None:
    with collected_all_the_time(server) if collecting else nullcontext(list):
        first = counted(server, version, sparse, tmp_path / "first")
        again = counted(server, version, sparse, tmp_path / "again")
    assert is_whole(first), first
    assert again == first


@contextmanager
def collected_all_the_time(server: Served) -> Iterator[Callable[[], list[str]]]:
    """`knarr registry gc`, by another process and with no grace but what a push needs, as often as it gets."""
    done = threading.Event()
    ran: list[str] = []

    def loop() -> None:
        command = [sys.executable, "-m", "knarr", "registry", "gc", "--undo=0s", "--grace=5s"]
        while not done.is_set():
            gc = subprocess.run(
                command, env={**os.environ, "KNARR_ROOT": str(server.state)}, capture_output=True, text=True
            )
            ran.append(f"{gc.returncode} {gc.stderr}")

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield lambda: ran
    finally:
        done.set()
        thread.join()
        assert len(ran) > 1
        assert [line for line in ran if not line.startswith("0 removed")] == []
