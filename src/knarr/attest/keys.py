"""Public keys that check signatures, and private keys that make them.

Kinds: ECDSA over P-256, P-384 and P-521, Ed25519, and RSA (PKCS #1 v1.5), as cosign
and containers/image know them. We sign over SHA-256 whatever the curve, since cosign 2
and skopeo check nothing else; sigstore's registry of algorithms has a larger hash for
the larger curves, which is taken as well when we check.

    key = PublicKey.parse(Path("release.pub").read_bytes(), name="release.pub")
    key.accepts(signature, payload)

Spec: RFC 7468 (PEM); sigstore protobuf-specs, "Algorithm Registry".
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from knarr.errors import KnarrError, UsageError
from knarr.record import field, record

Public = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

KINDS = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096")
_CURVES: dict[str, ec.EllipticCurve] = {
    "ecdsa-p256": ec.SECP256R1(),
    "ecdsa-p384": ec.SECP384R1(),
    "ecdsa-p521": ec.SECP521R1(),
}
_BY_SIZE: dict[int, type[hashes.SHA256] | type[hashes.SHA384] | type[hashes.SHA512]] = {
    256: hashes.SHA256,
    384: hashes.SHA384,
    521: hashes.SHA512,
}
_NAMES = tuple(curve.name for curve in _CURVES.values())
_LEAST_RSA_BITS = 2048  # sigstore's registry has nothing smaller


@record
class PublicKey:
    """A key by which signatures are checked, and where it came from."""

    key: Public = field(repr=False)
    name: str = ""  # for messages: the file it was read from

    @classmethod
    def parse(cls, data: bytes, *, name: str, now: datetime | None = None) -> PublicKey:
        """The key of a PEM file: a public key, or a certificate's, which must be valid at `now` (default: now).

        Who made a certificate is not asked: whoever names the file trusts its key.

        Raises:
            UsageError: it is none, of a kind that signs no images, or of a certificate whose time is over.
        """
        if b"PRIVATE KEY-----" in data:
            raise UsageError(f"{name}: a private key", hint="signatures are checked with the public key: NAME.pub")
        try:
            if b"BEGIN CERTIFICATE" in data:
                certificate = x509.load_pem_x509_certificate(data)
                key = certificate.public_key()
                _check_time(certificate, name, now or datetime.now(UTC))
            else:
                key = serialization.load_pem_public_key(data)  # type: ignore[assignment]  # other kinds: see below
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{name}: not a public key in PEM form", hint=f"the file says: {error}") from None
        return cls(usable(key, name), name)

    @property
    def der(self) -> bytes:
        """The key as SubjectPublicKeyInfo."""
        return self.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def pem(self) -> bytes:
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def hint(self) -> str:
        """What a sigstore bundle calls the key: its SHA-256 in base64, as cosign writes it."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def fingerprint(self) -> str:
        """What people compare: the SHA-256 of the key, in hexadecimal digits."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def kind(self) -> str:
        """One of `KINDS`, or the like of it."""
        if isinstance(self.key, ec.EllipticCurvePublicKey):
            return f"ecdsa-p{self.key.curve.key_size}"
        if isinstance(self.key, rsa.RSAPublicKey):
            return f"rsa-{self.key.key_size}"
        return "ed25519"

    def accepts(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is this key's over `data`."""
        return any(self._accepts(signature, data, algorithm) for algorithm in self._algorithms())

    def _algorithms(self) -> list[hashes.HashAlgorithm]:
        if isinstance(self.key, ec.EllipticCurvePublicKey):
            own = _BY_SIZE[self.key.curve.key_size]
            return [hashes.SHA256()] if own is hashes.SHA256 else [own(), hashes.SHA256()]
        return [hashes.SHA256()]

    def _accepts(self, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> bool:
        try:
            if isinstance(self.key, ec.EllipticCurvePublicKey):
                self.key.verify(signature, data, ec.ECDSA(algorithm))
            elif isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, data, padding.PKCS1v15(), algorithm)
            else:
                self.key.verify(signature, data)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer(Protocol):
    """Whatever makes signatures: a key in a file, or one that a token keeps."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """A signature over `data`, by its SHA-256."""
        ...


@record
class LocalKey:
    """A private key in this process's memory."""

    key: Private = field(repr=False)
    name: str = ""

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.key.public_key(), self.name)

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(data, ec.ECDSA(hashes.SHA256()))
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(data)


def _check_time(certificate: x509.Certificate, name: str, now: datetime) -> None:
    """A key says nothing of when it signed, so one whose certificate has ended may have signed since."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        what = f"expired on {end:%Y-%m-%d}" if now > end else f"is not valid before {begin:%Y-%m-%d}"
        raise UsageError(f"{name}: the certificate {what}", hint="name one that is valid, or the public key alone")


def make(kind: str) -> Private:
    """A new private key.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"key type {kind!r} is not known", hint=f"use one of: {', '.join(KINDS)}")
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind])
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


def usable(key: object, name: str) -> Public:
    """`key` as one that checks signatures of images.

    Raises:
        UsageError: it is of another kind, or too small.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in _NAMES:
            return key
        raise UsageError(f"{name}: curve {key.curve.name} signs no images", hint=f"use one of: {', '.join(KINDS)}")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size >= _LEAST_RSA_BITS:
            return key
        raise UsageError(f"{name}: an RSA key of {key.key_size} bits; at least {_LEAST_RSA_BITS} are needed")
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise UsageError(
        f"{name}: keys of this kind ({type(key).__name__}) sign no images", hint=f"use one of: {', '.join(KINDS)}"
    )


class PassphraseWrong(KnarrError):
    """A private key did not open with the passphrase that was given, or with none."""
