"""An authority makes certificates that openssl believes, keeps a ledger, revokes and survives bad files."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from knarr.errors import NotFound, UsageError
from knarr.pki import files
from knarr.pki.authority import Authority, Plan
from knarr.pki.names import Names
from knarr.pki.settings import KEY_KINDS, Subject, Use, Wanted, parse_lifetime

Make = Callable[..., Authority]
Give = Callable[..., Path]
Verified = Callable[..., str]


@pytest.mark.parametrize("kind", [kind for kind in KEY_KINDS if kind not in ("rsa-3072", "rsa-4096")])
@pytest.mark.parametrize("between", [True, False])
def test_openssl_believes_a_servers_certificate(
    make: Make, give: Give, verified: Verified, kind: str, between: bool
) -> None:
    place = give(make(kind=kind, between=between), "a.corp.example", "*.b.example", "10.0.0.7", kind=kind)
    strict = ("-x509_strict", "-purpose", "sslserver")
    assert verified(place, *strict, "-verify_hostname", "a.corp.example") == "OK"
    assert verified(place, *strict, "-verify_hostname", "x.b.example") == "OK"
    assert verified(place, *strict, "-verify_ip", "10.0.0.7") == "OK"
    assert "ostname mismatch" in verified(place, "-verify_hostname", "other.example")
    assert verified(place, "-purpose", "sslclient") != "OK"


def test_uses_are_kept_apart(make: Make, give: Give, verified: Verified) -> None:
    authority = make()
    client = give(authority, "alice", use=Use.CLIENT)
    peer = give(authority, "node1.example", use=Use.PEER)
    assert verified(client, "-purpose", "sslclient") == "OK"
    assert verified(client, "-purpose", "sslserver") != "OK"
    assert verified(peer, "-purpose", "sslserver") == verified(peer, "-purpose", "sslclient") == "OK"


def test_a_key_is_its_owners_alone_and_belongs_to_its_certificate(make: Make, give: Give) -> None:
    authority = make()
    place = give(authority, "a.example")
    for path in (place / "key.pem", authority.directory / "ca-key.pem", authority.directory / "intermediate-key.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = files.private_key((place / "key.pem").read_bytes(), where="key")
    assert files.belongs(key, files.certificates((place / "cert.pem").read_bytes(), where="cert")[0])


def test_a_constrained_authority_refuses_others_and_so_does_who_checks_what_it_signed(
    make: Make, give: Give, verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make("corp.example", "10.0.0.0/8")
    assert verified(give(authority, "a.corp.example", "10.1.2.3"), "-x509_strict") == "OK"
    with pytest.raises(UsageError, match=r"may not sign for evil.example") as caught:
        give(authority, "evil.example")
    assert "corp.example" in caught.value.hint
    # A thief of the key does not ask.
    monkeypatch.setattr(Authority, "_check", lambda *_: None)
    assert "permitted subtree violation" in verified(give(authority, "evil.example"))
    assert "permitted subtree violation" in verified(give(authority, "11.0.0.1"))


def test_an_authority_for_networks_only_signs_for_no_domain(
    make: Make, give: Give, verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make("10.0.0.0/8")
    assert verified(give(authority, "10.1.2.3")) == "OK"
    monkeypatch.setattr(Authority, "_check", lambda *_: None)
    assert "excluded subtree violation" in verified(give(authority, "a.example"))


def test_nothing_outlives_its_signer(tmp_path: Path, give: Give) -> None:
    plan = Plan(Subject("short"), "ecdsa-p256", parse_lifetime("10d"))
    authority = Authority.create(tmp_path / "short", plan, now_s=time.time())
    place = give(authority, "a.example")  # asks for 90 days
    made = files.certificates((place / "cert.pem").read_bytes(), where="cert")[0]
    assert made.not_valid_after_utc == authority.root.not_valid_after_utc


def test_the_ledger_knows_every_certificate_also_of_many_at_once(make: Make, give: Give) -> None:
    authority = make()
    threads = [threading.Thread(target=give, args=(Authority(authority.directory), f"n{n}.example")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = authority.entries()
    assert sorted(entry.label for entry in entries) == [f"n{n}.example" for n in range(8)]
    assert len({entry.serial for entry in entries}) == 8
    assert not [name for name in os.listdir(authority.directory) if name.startswith(".ledger")]


def test_a_revoked_certificate_is_on_the_list_that_openssl_reads(make: Make, give: Give, tmp_path: Path) -> None:
    authority = make(between=False)
    good, bad = give(authority, "good.example"), give(authority, "bad.example")
    serial = next(entry.serial for entry in authority.entries() if entry.label == "bad.example")
    authority.revoke([serial], now_s=time.time())
    crl = authority.directory / "crl.pem"

    def check(place: Path) -> str:
        argv = ["openssl", "verify", "-crl_check", "-CAfile", place / "ca.pem", "-CRLfile", crl, place / "cert.pem"]
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert "OK" in check(good)
    assert "certificate revoked" in check(bad)
    again = authority.renew_crl(now_s=time.time())
    assert [one.serial_number for one in again] == [serial]
    with pytest.raises(NotFound, match="serial number 5"):
        authority.revoke([5], now_s=time.time())


def test_there_is_one_authority_to_a_directory(make: Make) -> None:
    make()
    with pytest.raises(UsageError, match="already"):
        make()


def test_a_server_without_a_name_is_refused(make: Make, give: Give) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        give(make())


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("ca.pem", b"", "no certificate"),
        ("ca.pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        ("intermediate-key.pem", b"nothing", "no private key"),
        ("ledger.jsonl", b'{"serial": "1"}\n', "ledger.jsonl:1"),
    ],
)
def test_damaged_files_are_named(make: Make, give: Give, file: str, content: bytes, says: str) -> None:
    directory = make().directory
    (directory / file).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        give(Authority(directory), "a.example")


def test_a_key_of_another_authority_signs_nothing(make: Make, give: Give) -> None:
    authority, other = make(), make(name="other")
    (authority.directory / "intermediate-key.pem").write_bytes((other.directory / "intermediate-key.pem").read_bytes())
    with pytest.raises(UsageError, match="not the key of intermediate"):
        give(authority, "a.example")
    assert authority.entries() == ()


def test_a_request_is_signed_for_the_key_it_was_made_with(make: Make, tmp_path: Path) -> None:
    authority = make()
    argv = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "k.pem", "-subj", "/CN=a.example"]
    subprocess.run(
        [*argv, "-addext", "subjectAltName=DNS:a.example", "-out", tmp_path / "r.pem"], check=True, capture_output=True
    )
    request = files.request((tmp_path / "r.pem").read_bytes(), where="r")
    made = authority.issue(
        Wanted(Subject("a.example"), Use.SERVER, 3600), Names.parse(["a.example"]), now_s=time.time(), request=request
    )
    assert files.belongs(files.private_key((tmp_path / "k.pem").read_bytes(), where="k"), made.chain[0])
    with pytest.raises(UsageError, match="no signing request"):
        files.request(b"-----BEGIN CERTIFICATE REQUEST-----\n", where="x")


def test_a_weak_key_is_not_signed(make: Make, tmp_path: Path) -> None:
    argv = ["openssl", "req", "-newkey", "rsa:1024", "-nodes", "-keyout", tmp_path / "k", "-subj", "/CN=a"]
    subprocess.run([*argv, "-out", tmp_path / "r.pem"], check=True, capture_output=True)
    request = files.request((tmp_path / "r.pem").read_bytes(), where="r")
    with pytest.raises(UsageError, match="not signed"):
        make().issue(Wanted(Subject("a"), Use.CLIENT, 60), Names(), now_s=time.time(), request=request)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7_776_000), ("1h30m", 5400), ("8760h", 31_536_000), ("1y", 31_536_000)]
)
def test_lifetimes(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "0d", "d", "10", "-1d", "1x", "101y", "1h 2m"])
def test_what_is_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_lifetime(text)
