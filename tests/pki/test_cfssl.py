"""cfssl's documents are read, and cfssl's own client gets certificates from the signing service."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import UsageError
from knarr.pki import cfssl
from knarr.pki.authority import Authority
from knarr.pki.settings import Use

pytestmark = pytest.mark.system

CSR = {
    "CN": "Old CA",
    "key": {"algo": "rsa", "size": 2048},
    "names": [{"C": "NL", "L": "Delft", "O": "Corp", "OU": "Ops", "ST": "ZH"}],
    "ca": {"expiry": "87600h"},
}


def run(*argv: str | Path, cwd: Path, stdin: str = "") -> str:
    assert shutil.which("cfssl"), "Debian's golang-cfssl is missing: apt-get install golang-cfssl"
    done = subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """What cfssl made: init.json as it printed it, ca.pem and ca-key.pem."""
    (tmp_path / "csr.json").write_text(json.dumps(CSR))
    (tmp_path / "init.json").write_text(run("cfssl", "gencert", "-initca", "csr.json", cwd=tmp_path))
    run("cfssljson", "-bare", "ca", cwd=tmp_path, stdin=(tmp_path / "init.json").read_text())
    return tmp_path


def test_an_authority_of_cfssl_is_taken_over(
    old: Path, give: Callable[..., Path], verified: Callable[..., str]
) -> None:
    certificate, key = cfssl.bundle((old / "init.json").read_bytes(), where="init.json")
    assert (certificate.strip(), key.strip()) == (
        (old / "ca.pem").read_bytes().strip(),
        (old / "ca-key.pem").read_bytes().strip(),
    )
    authority = Authority.adopt(old / "ours", certificate, key, where="init.json")
    place = give(authority, "a.example")
    assert verified(place) == "OK"
    assert (place / "ca.pem").read_bytes().strip() == certificate.strip()


def test_only_an_authority_with_its_own_key_is_taken_over(old: Path, give: Callable[..., Path]) -> None:
    authority = Authority.adopt(
        old / "ours", (old / "ca.pem").read_bytes(), (old / "ca-key.pem").read_bytes(), where="ca.pem"
    )
    place = give(authority, "a.example")
    with pytest.raises(UsageError, match="not that of the certificate"):
        Authority.adopt(old / "b", (old / "ca.pem").read_bytes(), (place / "key.pem").read_bytes(), where="ca.pem")
    with pytest.raises(UsageError, match="may not sign others"):
        Authority.adopt(
            old / "b", (place / "cert.pem").read_bytes(), (place / "key.pem").read_bytes(), where="cert.pem"
        )


def test_csr_documents_and_profiles_are_read() -> None:
    asked = cfssl.request(json.dumps(CSR).encode(), where="csr.json")
    assert (asked.subject.common_name, asked.subject.organization, asked.subject.country) == ("Old CA", "Corp", "NL")
    assert (asked.key_kind, asked.lifetime_s) == ("rsa-2048", 87_600 * 3600)
    config = {
        "signing": {
            "default": {"expiry": "168h"},
            "profiles": {
                "web": {"usages": ["signing", "server auth"], "expiry": "24h"},
                "peer": {"usages": ["server auth", "client auth"]},
                "user": {"usages": ["client auth"]},
            },
        }
    }
    found = cfssl.profiles(json.dumps(config).encode(), where="config.json")
    assert {name: (profile.use, profile.lifetime_s // 3600) for name, profile in found.items()} == {
        "": (Use.SERVER, 168),
        "web": (Use.SERVER, 24),
        "peer": (Use.PEER, 168),
        "user": (Use.CLIENT, 168),
    }


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"signing": 1}', b'{"key": {"algo": "dsa"}}', b'{"hosts": ["a b"]}']
)
def test_other_documents_are_refused(data: bytes) -> None:
    for read in (cfssl.request, cfssl.profiles, cfssl.bundle):
        try:
            read(data, where="file.json")
        except UsageError:
            continue
        assert read is cfssl.profiles or data == b'{"signing": 1}'


@pytest.fixture
def service(tmp_path: Path, make: Callable[..., Authority]) -> Iterator[dict[str, Any]]:
    """`knarr pki serve` for corp.example, and what a client of cfssl needs to ask it."""
    authority = make("corp.example", "127.0.0.0/8")
    argv = [sys.executable, "-m", "knarr", "pki", "serve", "--dir", authority.directory, "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*argv, "--permit", "app.corp.example"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on https://"), line
        url = line.split()[-1]
        config = {
            "signing": {"default": {"auth_remote": {"remote": "srv", "auth_key": "k"}, "expiry": "24h"}},
            "auth_keys": {"k": {"type": "standard", "key": (authority.directory / "auth-key").read_text().strip()}},
            "remotes": {"srv": url},
        }
        yield {"ca": authority.directory / "ca.pem", "config": config, "url": url, "authority": authority}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 128 + signal.SIGTERM, 143)


def ask(service: dict[str, Any], work: Path, name: str) -> str:
    (work / "config.json").write_text(json.dumps(service["config"]))
    (work / "ask.json").write_text(json.dumps({"CN": name, "hosts": [name], "key": {"algo": "ecdsa", "size": 256}}))
    return run("cfssl", "gencert", "-config", "config.json", "-tls-remote-ca", service["ca"], "ask.json", cwd=work)


def test_cfssls_client_gets_a_certificate_that_openssl_believes(service: dict[str, Any], tmp_path: Path) -> None:
    answer = json.loads(ask(service, tmp_path, "x.app.corp.example"))
    (tmp_path / "cert.pem").write_text(answer["cert"])
    argv = [
        "openssl",
        "verify",
        "-CAfile",
        service["ca"],
        "-untrusted",
        "cert.pem",
        "-verify_hostname",
        "x.app.corp.example",
    ]
    assert "OK" in run(*argv, "cert.pem", cwd=tmp_path)
    labels = [entry.label for entry in service["authority"].entries()]
    assert labels == ["service", "x.app.corp.example"]


def test_a_name_that_is_not_permitted_and_a_wrong_key_get_nothing(service: dict[str, Any], tmp_path: Path) -> None:
    assert "may not sign for other.corp.example" in ask(service, tmp_path, "other.corp.example")
    service["config"]["auth_keys"]["k"]["key"] = "00" * 32
    assert "the token is wrong" in ask(service, tmp_path, "x.app.corp.example")
    assert [entry.label for entry in service["authority"].entries()] == ["service"]


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"token": "?", "request": "?"}', '{"token": 1, "request": 2}'])
def test_what_is_no_request_is_refused(service: dict[str, Any], tmp_path: Path, body: str) -> None:
    argv = ["curl", "-s", "--cacert", service["ca"], "-d", "@-", service["url"] + "/api/v1/cfssl/authsign"]
    answer = json.loads(run(*argv, cwd=tmp_path, stdin=body))
    assert answer["success"] is False
    assert answer["errors"][0]["code"] == 400


def test_the_authoritys_certificate_and_list_need_no_key(service: dict[str, Any], tmp_path: Path) -> None:
    fetch = ["curl", "-s", "--cacert", service["ca"]]
    assert run(*fetch, service["url"] + "/ca.pem", cwd=tmp_path) == service["ca"].read_text()
    assert "BEGIN X509 CRL" in run(*fetch, service["url"] + "/crl.pem", cwd=tmp_path)


def test_a_service_that_could_sign_for_everybody_does_not_start(make: Callable[..., Authority]) -> None:
    argv = [sys.executable, "-m", "knarr", "pki", "serve", "--dir", make().directory, "--listen", "127.0.0.1:0"]
    done = subprocess.run(argv, capture_output=True, text=True, env=dict(os.environ), timeout=60)
    assert done.returncode == 2
    assert "--permit" in done.stderr
