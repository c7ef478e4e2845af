"""Signatures of OpenPGP, made by gpg: which count, and what is said of the others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import KnarrError
from knarr.llb.ops import SourceOp
from knarr.ops.pgp import verify
from knarr.ops.source_http import parse
from tests.ops.servers import Page, file_server
from tests.ops.test_source_blob import Fetching

pytestmark = pytest.mark.system

DATA = b"what was signed\n"


class Signer:
    """A person with a key of their own."""

    def __init__(self, home: Path, name: str, *more: str, expires: str = "never") -> None:
        home.mkdir(mode=0o700)
        self.home = home
        self.gpg(*more, "--quick-gen-key", f"{name} <{name}@corp.example>", "ed25519", "sign", expires)

    def gpg(self, *words: str, data: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--yes", "--passphrase", "", *words]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout

    @property
    def key(self) -> bytes:
        return self.gpg("--armor", "--export")

    def sign(self, *more: str, data: bytes = DATA) -> bytes:
        return self.gpg(*more, "--armor", "--detach-sign", data=data)


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "alice", "alice")


@pytest.fixture(scope="module")
def bob(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys") / "bob", "bob")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_any_of_the_keys_may_have_signed(alice: Signer, bob: Signer, file: Path) -> None:
    signature = alice.sign()
    verify(file, signature, alice.key)
    verify(file, signature, bob.key + b"\n" + alice.key.replace(b"\n", b"\r\n"))


def test_the_key_of_somebody_else_does_not_count(alice: Signer, bob: Signer, file: Path) -> None:
    with pytest.raises(KnarrError, match="failed to verify pgp signature: no key is given"):
        verify(file, alice.sign(), bob.key)


def test_a_file_that_was_changed_is_told(alice: Signer, file: Path) -> None:
    file.write_bytes(DATA + b"more")
    with pytest.raises(KnarrError, match="it is not of this file"):
        verify(file, alice.sign(), alice.key)


def test_a_weak_digest_does_not_count(alice: Signer, file: Path) -> None:
    with pytest.raises(KnarrError, match="failed to verify pgp signature"):
        verify(file, alice.sign("--digest-algo", "SHA1"), alice.key)


def test_what_a_key_signed_before_it_expired_counts(tmp_path: Path, file: Path) -> None:
    past = ("--faked-system-time", "20200101T000000")
    carol = Signer(tmp_path / "carol", "carol", *past, expires="1y")
    verify(file, carol.sign(*past), carol.key)


def test_a_signature_of_the_future_does_not_count(alice: Signer, file: Path) -> None:
    with pytest.raises(KnarrError, match="failed to verify pgp signature"):
        verify(file, alice.sign("--faked-system-time", "20990101T000000"), alice.key)


def test_a_revoked_key_does_not_count(tmp_path: Path, file: Path) -> None:
    dave = Signer(tmp_path / "dave", "dave")
    signature = dave.sign()
    (revocation,) = (dave.home / "openpgp-revocs.d").glob("*.rev")
    dave.gpg("--import", data=revocation.read_bytes().replace(b"\n:-----BEGIN", b"\n-----BEGIN"))
    with pytest.raises(KnarrError, match="its key is revoked"):
        verify(file, signature, dave.key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda signature, key: (b"", key), "no PGP SIGNATURE was given"),
        (lambda signature, key: (signature, signature), "no PGP PUBLIC KEY BLOCK was given"),
        (lambda signature, key: (signature.replace(b"\n\n", b"\n\n!", 1), key), "cannot be decoded"),
        (lambda signature, key: (signature, key[: len(key) // 2]), "PGP PUBLIC KEY BLOCK"),
    ],
)
def test_what_is_no_signature_or_key_is_told(
    alice: Signer, file: Path, change: Callable[[bytes, bytes], tuple[bytes, bytes]], message: str
) -> None:
    with pytest.raises(KnarrError, match=message):
        verify(file, *change(alice.sign(), alice.key))


def test_without_gpgv_nothing_counts(alice: Signer, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signature, key = alice.sign(), alice.key
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KnarrError, match="gpgv is not installed"):
        verify(file, signature, key)


@pytest.mark.root
def test_a_file_of_a_server_is_used_only_when_it_is_signed(
    bases: Any, tmp_path: Path, alice: Signer, bob: Signer
) -> None:
    fetching = Fetching(bases, tmp_path / "state")
    with file_server() as server:
        server.pages["/f"] = Page(DATA)
        signed = {"http.sig.signature": alice.sign().decode(), "http.sig.pubkey": alice.key.decode()}
        assert fetching.tree(SourceOp(server.url("/f"), signed))["f"][0] == DATA
        with pytest.raises(KnarrError, match="failed to verify pgp signature") as caught:
            fetching.tree(SourceOp(server.url("/f"), {**signed, "http.sig.pubkey": bob.key.decode()}))
        assert caught.value.context["url"] == server.url("/f")
        server.pages["/f"] = Page(b"something else")
        with pytest.raises(KnarrError, match="it is not of this file"):
            fetching.tree(SourceOp(server.url("/f"), signed))


def test_a_signature_needs_a_key() -> None:
    with pytest.raises(KnarrError, match="requires both pubkey and signature"):
        parse(SourceOp("https://files.corp.example/f", {"http.sig.signature": "x"}))
