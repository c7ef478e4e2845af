"""A user's key for a registry, by which a builder sees that two sessions are of the same user.

It is made of a seed that only this user has, of the login, and of the builder's own salt, so
that another builder, another registry or another login has another key. Without a
login everybody has the same one: who logs in as nobody is nobody in particular.

Spec: BuildKit's session/auth/authprovider; NaCl's crypto_sign (a signature of 64 bytes, then the message).
"""

from __future__ import annotations

import contextlib
import hmac
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from knarr.session.session import Credentials

SEED_BYTES = 32


def public_key(seed: bytes, host: str, login: Credentials, salt: bytes) -> bytes:
    """The 32 bytes of the public key."""
    return _key(seed, host, login, salt).public_key().public_bytes_raw()


def sign(seed: bytes, host: str, login: Credentials, salt: bytes, payload: bytes) -> bytes:
    """`payload` with its signature before it."""
    return _key(seed, host, login, salt).sign(payload) + payload


def opened(public: bytes, signed: bytes) -> bytes | None:
    """The payload of `signed`, if it was signed by the key whose public half is `public`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signed[:64], signed[64:])
    except (InvalidSignature, ValueError):
        return None
    return signed[64:]


def _key(seed: bytes, host: str, login: Credentials, salt: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    mac = hmac.new(salt, digestmod="sha256")
    if not login.empty:
        whom = f"{host}\0{login.username}\0{login.identity_token[:8]}"
        mac.update(hmac.digest(seed, whom.encode(), "sha256"))
    return Ed25519PrivateKey.from_private_bytes(mac.digest())


def read_seed(path: Path) -> bytes:
    """The seed kept at `path`; made there when there is none, and for this process only where that cannot be."""
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if len(found) == SEED_BYTES:
            return found
    seed = os.urandom(SEED_BYTES)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(seed)
        os.rename(fresh, path)
    return seed
