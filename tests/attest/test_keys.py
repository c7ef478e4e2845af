"""Keys of every kind that cosign knows sign and check; others are refused by name."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from knarr.attest.keyfile import plain, read_private, seal
from knarr.attest.keys import KINDS, LocalKey, PassphraseWrong, PublicKey, make
from knarr.errors import UsageError

QUICK = tuple(kind for kind in KINDS if not kind.startswith("rsa") or kind == "rsa-2048")


def pem(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]  # of any kind
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize("kind", QUICK)
def test_a_key_accepts_its_own_signature_and_no_other(kind: str) -> None:
    key, other = LocalKey(make(kind)), LocalKey(make(kind))
    signature = key.sign(b"content")
    assert key.public.accepts(signature, b"content")
    assert not key.public.accepts(signature, b"Content")
    assert not key.public.accepts(signature[:-1] + bytes([signature[-1] ^ 1]), b"content")
    assert not other.public.accepts(signature, b"content")
    assert not key.public.accepts(b"", b"content")


@pytest.fixture
def quick_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key to open in a millisecond; the real one takes a tenth of a second, twice."""
    monkeypatch.setattr("knarr.attest.keyfile._N", 2**10)


@pytest.mark.parametrize("kind", QUICK)
@pytest.mark.parametrize("passphrase", [b"secret", b"", "pässword".encode()])
@pytest.mark.usefixtures("quick_scrypt")
def test_a_sealed_key_opens_with_its_passphrase_only(kind: str, passphrase: bytes) -> None:
    private = make(kind)
    data = seal(private, passphrase)
    assert read_private(data, passphrase, name="a.key").public.der == LocalKey(private).public.der
    with pytest.raises(PassphraseWrong, match=r"a\.key: the passphrase is wrong"):
        read_private(data, passphrase + b"x", name="a.key")
    with pytest.raises(PassphraseWrong, match="there is no passphrase"):
        read_private(data, None, name="a.key")


def test_the_older_name_of_the_sealed_form_is_read() -> None:
    private = make("ecdsa-p256")
    data = seal(private, b"x").replace(b"SIGSTORE", b"COSIGN")
    assert read_private(data, b"x", name="a.key").public.kind == "ecdsa-p256"


@pytest.mark.parametrize("cipher", ["-aes256", ""])
def test_keys_of_openssl_are_read(tmp_path: Path, cipher: str) -> None:
    file = tmp_path / "a.key"
    words = [cipher, "-pass", "pass:secret"] if cipher else []
    argv = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *words, "-out", str(file)]
    subprocess.run(argv, check=True, capture_output=True)
    assert read_private(file.read_bytes(), b"secret", name="a.key").public.kind == "ecdsa-p256"
    if cipher:
        for wrong in (b"no", b"", None):
            with pytest.raises(PassphraseWrong):
                read_private(file.read_bytes(), wrong, name="a.key")


def test_a_signature_with_the_hash_of_its_curve_is_accepted_as_well() -> None:
    private = ec.generate_private_key(ec.SECP384R1())
    signature = private.sign(b"content", ec.ECDSA(hashes.SHA384()))
    assert PublicKey(private.public_key()).accepts(signature, b"content")


def test_a_signature_with_a_weak_hash_is_not() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    assert not PublicKey(private.public_key()).accepts(private.sign(b"x", ec.ECDSA(hashes.SHA1())), b"x")


@pytest.mark.parametrize(
    ("day", "says"),
    [(-1, "is not valid before 2026-05-01"), (0, ""), (1, ""), (31, r"the certificate expired on 2026-05-31")],
)
def test_a_certificate_stands_for_its_key_while_it_is_valid(day: int, says: str) -> None:
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 5, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    end = start + timedelta(days=30)
    made = builder.serial_number(1).not_valid_before(start).not_valid_after(end).sign(key, hashes.SHA256())
    data, now = made.public_bytes(serialization.Encoding.PEM), start + timedelta(days=day)
    if says:
        with pytest.raises(UsageError, match=says):
            PublicKey.parse(data, name="a.crt", now=now)
    else:
        assert PublicKey.parse(data, name="a.crt", now=now).accepts(LocalKey(key).sign(b"x"), b"x")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key"),
        (plain(make("ecdsa-p256")), "a private key"),
        (pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "curve secp256k1 signs no images"),
        (pem(rsa.generate_private_key(65537, 1024).public_key()), "1024 bits; at least 2048"),
        (pem(dsa.generate_private_key(1024).public_key()), "sign no images"),
    ],
    ids=["empty", "no DER", "private", "curve", "small", "dsa"],
)
def test_what_signs_no_images_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        PublicKey.parse(data, name="a.pub")


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"kdf":{"name":"scrypt","params":{"N":1073741824,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox",'
        b'"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"ciphertext":""}',
        b'{"kdf":{"name":"pbkdf2","params":{"N":2,"r":8,"p":1},"salt":""},"cipher":{"name":"x","nonce":""},'
        b'"ciphertext":""}',
        b'{"kdf":{"name":"scrypt","params":{"N":-1,"r":8,"p":1},"salt":""},"cipher":{"name":"nacl/secretbox",'
        b'"nonce":""},"ciphertext":""}',
    ],
    ids=["empty", "list", "text", "too much memory", "unknown", "negative"],
)
def test_a_malformed_sealed_key_is_told_and_takes_nothing(content: bytes) -> None:
    import base64

    kind = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    data = b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind, base64.b64encode(content), kind)
    with pytest.raises(UsageError, match=r"a\.key: "):
        read_private(data, b"x", name="a.key")
