"""`knarr pki` from an authority to a registry that every tool believes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def pki(tmp_path: Path) -> Run:
    """Run `knarr pki …` on an authority of its own."""
    env = {
        **os.environ,
        "KNARR_PKI": str(tmp_path / "ca"),
        "HOME": str(tmp_path),
        "KNARR_HOSTS_DIR": str(tmp_path / "hosts"),
    }

    def run(*argv: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "knarr", "pki", *argv], env=env, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Serve TLS with the certificate in a directory; the address."""
    started: list[subprocess.Popen[str]] = []

    def serve(place: Path) -> str:
        argv = [sys.executable, "-m", "knarr", "registry", "serve", "--listen", "127.0.0.1:0"]
        tls = ["--tls-cert", place / "cert.pem", "--tls-key", place / "key.pem"]
        env = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
        process = subprocess.Popen([*argv, *tls], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        return line.split("https://")[1].split("/")[0]

    yield serve
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def test_a_private_registry_is_believed_after_one_command(
    pki: Run, server: Callable[[Path], str], tmp_path: Path
) -> None:
    pki("init", "--name", "Corp CA", "--intermediate", "--permit", "127.0.0.0/8", "--permit", "corp.example")
    place = Path(pki("server", "127.0.0.1", "registry.corp.example").stdout.strip()).parent
    host = server(place)

    before = pki("doctor", host, status=1).stdout
    assert "signed by CN=Corp CA intermediate" in before
    assert "WRONG     knarr" in before
    assert "unable to get local issuer certificate" in before

    pki("trust", "install", host, "--tool", "knarr", "--root", tmp_path / "root")
    (tmp_path / "hosts").symlink_to(tmp_path / "root/etc/knarr/certs.d")
    after = pki("doctor", host).stdout
    assert f"ok        knarr       {tmp_path}/hosts/{host}/ca.crt" in after


def test_the_doctor_names_the_place_that_is_wrong(pki: Run, server: Callable[[Path], str], tmp_path: Path) -> None:
    pki("init")
    host = server(Path(pki("server", "127.0.0.1").stdout.strip()).parent)
    pki("init", "--dir", "other", "--name", "Other CA")
    pki("trust", "install", host, "--tool", "knarr", "--root", "root", "--ca", "other/ca.pem")
    (tmp_path / "hosts").symlink_to(tmp_path / "root/etc/knarr/certs.d")
    told = pki("doctor", host, status=1).stdout.splitlines()
    line = next(number for number, text in enumerate(told) if f"hosts/{host}/ca.crt" in text)
    assert told[line].startswith("WRONG")
    assert "issuer certificate" in told[line + 1]


def test_nobody_there_is_one_message(pki: Run) -> None:
    done = pki("doctor", "127.0.0.1:1", status=1)
    assert done.stderr.startswith("error: 127.0.0.1:1: Connection refused")


def test_what_ends_soon_is_made_anew_in_its_place(pki: Run, tmp_path: Path) -> None:
    pki("init")
    for name, lifetime in (("soon.example", "2d"), ("later.example", "90d")):
        pki("server", name, "--lifetime", lifetime, "--out", f"tls/{name}")
    old = {name: (tmp_path / f"tls/{name}/cert.pem").read_bytes() for name in ("soon.example", "later.example")}
    key = (tmp_path / "tls/soon.example/key.pem").read_bytes()

    assert pki("renew").stdout == ""
    assert pki("renew", "--within", "3d").stdout == f"{tmp_path}/tls/soon.example/cert.pem\n"
    assert (tmp_path / "tls/soon.example/cert.pem").read_bytes() != old["soon.example"]
    assert (tmp_path / "tls/soon.example/key.pem").read_bytes() != key
    assert (tmp_path / "tls/later.example/cert.pem").read_bytes() == old["later.example"]

    key = (tmp_path / "tls/later.example/key.pem").read_bytes()
    pki("renew", "--force", "--keep-key", "later.example")
    assert (tmp_path / "tls/later.example/key.pem").read_bytes() == key
    assert "no certificate other.example" in pki("renew", "other.example", status=1).stderr


def test_the_list_tells_what_holds_and_what_was_revoked(pki: Run) -> None:
    pki("init")
    pki("server", "a.example")
    pki("client", "alice")
    pki("revoke", "alice")
    assert [line.split()[0] for line in pki("list").stdout.splitlines()] == ["NAME", "a.example"]
    entries = [json.loads(line) for line in pki("list", "--all", "--format", "json").stdout.splitlines()]
    assert [(entry["label"], bool(entry["revoked"])) for entry in entries] == [("a.example", False), ("alice", True)]
    assert "no certificate bob was issued" in pki("revoke", "bob", status=1).stderr


def test_a_request_from_standard_input_is_signed_to_standard_output(pki: Run, tmp_path: Path) -> None:
    pki("init")
    argv = ["openssl", "req", "-newkey", "ed25519", "-nodes", "-keyout", "k.pem", "-subj", "/CN=x", "-out", "r.pem"]
    subprocess.run([*argv, "-addext", "subjectAltName=DNS:x.example"], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "cert.pem").write_text(pki("sign", "r.pem").stdout)
    verify = ["openssl", "verify", "-CAfile", "ca/ca.pem", "-verify_hostname", "x.example", "cert.pem"]
    assert "cert.pem: OK" in subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("server",), "needs a name"),
        (("server", "a b"), "cannot be a name"),
        (("server", "a.example", "--lifetime", "soon"), "no length of time"),
        (("server", "a.example", "--key", "dsa"), "are not made"),
        (("client", "a", "b"), "one name"),
        (("server", "a.example", "--profile", "x"), "--profile needs --config"),
        (("trust", "install"), "needs install, remove"),
        (("trust", "install", "https://a"), "is no registry"),
        (("init",), "already"),
        (("fetch",), "not known"),
    ],
)
def test_wrong_words_are_told(pki: Run, argv: tuple[str, ...], says: str) -> None:
    pki("init")
    done = pki(*argv, status=2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
