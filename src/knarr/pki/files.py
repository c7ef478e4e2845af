"""Files of an authority: written whole or not at all, keys for their owner only, one writer at a time.

Spec: RFC 7468 (PEM).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from knarr.errors import KnarrError, NotFound, UsageError
from knarr.pki.issue import PrivateKey

PUBLIC, SECRET = 0o644, 0o600
Request = x509.CertificateSigningRequest


def write(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Put `data` in the place of whatever was at `path`.

    Raises:
        KnarrError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise KnarrError(f"{path}: {error.strerror}") from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among all processes that change `directory`.

    Raises:
        KnarrError: the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET)
    except OSError as error:
        raise KnarrError(f"{directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        NotFound: there is none.
        KnarrError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist") from None
    except OSError as error:
        raise KnarrError(f"{path}: {error.strerror}") from error


def certificates(data: bytes, *, where: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, in its order.

    Raises:
        UsageError: there is none, or one cannot be read. `where` says whose it is.
    """
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UsageError(f"{where}: no certificate in PEM: {error}") from error


def private_key(data: bytes, *, where: str) -> PrivateKey:
    """The key of a PEM file.

    Raises:
        UsageError: it is none, has a password, or is of a kind that signs no certificates.
    """
    try:
        found = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise UsageError(
            f"{where}: the key has a password", hint="write it without one: openssl pkey -in KEY -out NEW"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{where}: no private key in PEM: {error}") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        raise UsageError(f"{where}: keys of this kind are not used", hint="ECDSA, Ed25519 and RSA are")
    return found


def request(data: bytes, *, where: str) -> Request:
    """The signing request of a PEM file, whose signature proves that its sender has the key.

    Raises:
        UsageError: it is none, or its signature is wrong.
    """
    try:
        found = x509.load_pem_x509_csr(data)
    except ValueError as error:
        raise UsageError(f"{where}: no signing request in PEM: {error}") from error
    if not found.is_signature_valid:
        raise UsageError(f"{where}: the signature of the request is wrong")
    return found


def pem(*chain: x509.Certificate) -> bytes:
    """Certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in chain)


def key_pem(key: PrivateKey) -> bytes:
    """A key as PKCS#8 PEM, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def belongs(key: PrivateKey, certificate: x509.Certificate) -> bool:
    """Whether the certificate is for this key."""
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def chain_of(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """`certificate` and those of `others` that signed it, up to the last that is known."""
    chain = [certificate]
    left = list(others)
    while chain[-1].issuer != chain[-1].subject:
        signer = next((other for other in left if other.subject == chain[-1].issuer), None)
        if signer is None:
            break
        left.remove(signer)
        chain.append(signer)
    return chain
