"""Private keys from files, and what an agent does with them.

`cryptography` reads the formats (OpenSSH's own, PKCS#1, PKCS#8, SEC1) and signs; here is only
how ssh writes a public key and a signature down. It is imported by who lends a key file.

Spec: RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709.
"""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from knarr.errors import UsageError
from knarr.session.sshagent import text

Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MAX_KEY_BYTES = 100 << 10  # BuildKit's bound
_SHA_256, _SHA_512 = 2, 4  # flags of a request to sign with RSA
_CURVES: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "secp256r1": (b"nistp256", hashes.SHA256()),
    "secp384r1": (b"nistp384", hashes.SHA384()),
    "secp521r1": (b"nistp521", hashes.SHA512()),
}


class SshKey:
    """A private key. `public` is its public half as ssh writes it."""

    def __init__(self, private: Private) -> None:
        self._private = private
        line = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.public = b64decode(line.split()[1])

    def sign(self, data: bytes, flags: int) -> bytes:
        """The signature of `data` in ssh's form; `flags` choose the hash for an RSA key."""
        private = self._private
        if isinstance(private, ed25519.Ed25519PrivateKey):
            return text(b"ssh-ed25519") + text(private.sign(data))
        if isinstance(private, ec.EllipticCurvePrivateKey):
            curve, digest = _CURVES[private.curve.name]
            r, s = decode_dss_signature(private.sign(data, ec.ECDSA(digest)))
            return text(b"ecdsa-sha2-" + curve) + text(_number(r) + _number(s))
        name, chosen = _rsa_hash(flags)
        return text(name) + text(private.sign(data, padding.PKCS1v15(), chosen))


def _rsa_hash(flags: int) -> tuple[bytes, hashes.HashAlgorithm]:
    if flags & _SHA_512:
        return b"rsa-sha2-512", hashes.SHA512()
    if flags & _SHA_256:
        return b"rsa-sha2-256", hashes.SHA256()
    return b"ssh-rsa", hashes.SHA1()


def _number(value: int) -> bytes:
    """A positive whole number as ssh writes it: a leading zero byte keeps it positive."""
    return text(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def read_key(id: str, path: Path) -> SshKey:
    """The private key in a file.

    Raises:
        UsageError: it cannot be read, is protected by a passphrase, or is none that ssh uses.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise UsageError(f"--ssh {id}: {path}: {error.strerror}") from error
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        private = load(data, None)
    except TypeError:
        raise UsageError(
            f"--ssh {id}: {path} is protected by a passphrase",
            hint=f"lend an agent that has it: ssh-add {path}, then --ssh {id}",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"--ssh {id}: {path} is no private key", hint=_hint(data)) from None
    if isinstance(private, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        return SshKey(private)
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in _CURVES:
        return SshKey(private)
    raise UsageError(
        f"--ssh {id}: {path} is a kind of key that is not used with ssh", hint="ed25519, ecdsa and rsa are"
    )


def _hint(data: bytes) -> str:
    if data.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return "it is a public key: leave out .pub"
    return "a key as ssh-keygen makes it, or in PEM"
