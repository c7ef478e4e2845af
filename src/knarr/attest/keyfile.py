"""Private keys in files: PEM as OpenSSL writes it, and the encrypted form of cosign.

cosign's form is a PEM block around JSON that names scrypt and NaCl's secretbox, with
a PKCS #8 key inside. It was called COSIGN at first and is called SIGSTORE now.

    signer = read_private(path.read_bytes(), b"secret", name="release.key")
    path.write_bytes(seal(make("ecdsa-p256"), b"secret"))

Spec: cosign 2.5, "Signature Specification" and `pkg/cosign/keys.go` (tried with 2.5.0).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from knarr.attest.keys import LocalKey, PassphraseWrong, Private, usable
from knarr.errors import UsageError

SEALED = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s+(.+?)-----END \1-----", re.DOTALL)
_N, _R, _P = 2**16, 8, 1  # scrypt, as cosign 2 chooses: 64 MiB, a tenth of a second
_MOST_MEMORY = 2**28  # bytes that a file may make scrypt take
_MOST_BYTES = 2**16  # of a key file


def read_private(data: bytes, passphrase: bytes | None, *, name: str) -> LocalKey:
    """The private key of a file. `passphrase` None: none is known.

    Raises:
        PassphraseWrong: the key is encrypted, and not with this passphrase.
        UsageError: not a private key, or one that signs no images.
    """
    match = _BLOCK.search(data[:_MOST_BYTES])
    if match is None or not match[1].endswith(b"PRIVATE KEY"):
        raise UsageError(
            f"{name}: not a private key in PEM form", hint="`knarr sign generate-key` makes one, and so does openssl"
        )
    if match[1].decode() in SEALED:
        if passphrase is None:
            raise PassphraseWrong(f"{name}: the key is encrypted, and there is no passphrase")
        return _checked(_loaded(_open(match[2], passphrase, name), None, name), name)
    return _checked(_loaded_pem(data, passphrase, name), name)


def seal(key: Private, passphrase: bytes) -> bytes:
    """The file of a private key in cosign's encrypted form."""
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(32), os.urandom(SecretBox.NONCE_SIZE)
    box = SecretBox(_stretched(passphrase, salt, _N, _R, _P))
    content = {
        "kdf": {"name": "scrypt", "params": {"N": _N, "r": _R, "p": _P}, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box.encrypt(_pkcs8(key), nonce).ciphertext).decode(),
    }
    text = base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {SEALED[0]}-----", *lines, f"-----END {SEALED[0]}-----", ""]).encode()


def plain(key: Private) -> bytes:
    """The file of a private key that nothing protects: PKCS #8."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pkcs8(key: Private) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _open(body: bytes, passphrase: bytes, name: str) -> bytes:
    """The PKCS #8 key inside of cosign's form."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        content = json.loads(base64.b64decode(body))
        kdf, cipher = content["kdf"], content["cipher"]
        numbers = tuple(_number(kdf["params"][one]) for one in ("N", "r", "p"))
        salt, nonce, sealed = (_bytes(one) for one in (kdf["salt"], cipher["nonce"], content["ciphertext"]))
        known = (kdf["name"], cipher["name"]) == ("scrypt", "nacl/secretbox") and len(nonce) == SecretBox.NONCE_SIZE
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{name}: the encrypted key is malformed: {error!r}") from None
    if not known:
        raise UsageError(f"{name}: encrypted with {kdf['name']} and {cipher['name']}, which are not known here")
    try:
        return SecretBox(_stretched(passphrase, salt, *numbers)).decrypt(sealed, nonce)
    except CryptoError:
        raise PassphraseWrong(f"{name}: the passphrase is wrong, or the file is damaged") from None
    except ValueError as error:
        raise UsageError(f"{name}: the encrypted key is malformed: {error}") from None


def _stretched(passphrase: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    if n * r * 128 > _MOST_MEMORY or p > 16:
        raise ValueError(f"scrypt with N={n}, r={r}, p={p} takes too much")
    return hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=2 * _MOST_MEMORY, dklen=32)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is no parameter of scrypt")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not base64")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _loaded(der: bytes, passphrase: bytes | None, name: str) -> object:
    try:
        return serialization.load_der_private_key(der, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{name}: what was encrypted is not a private key: {error}") from None


def _loaded_pem(data: bytes, passphrase: bytes | None, name: str) -> object:
    is_encrypted = b"ENCRYPTED" in data
    if is_encrypted and passphrase is None:
        raise PassphraseWrong(f"{name}: the key is encrypted, and there is no passphrase")
    try:
        return serialization.load_pem_private_key(data, (passphrase or None) if is_encrypted else None)
    except TypeError:
        raise PassphraseWrong(f"{name}: the key is encrypted, and the passphrase is empty") from None
    except ValueError as error:
        if is_encrypted:
            raise PassphraseWrong(f"{name}: the passphrase is wrong, or the file is damaged") from None
        raise UsageError(f"{name}: not a private key: {error}") from None
    except UnsupportedAlgorithm as error:
        raise UsageError(f"{name}: {error}") from None


def _checked(key: Any, name: str) -> LocalKey:
    usable(key.public_key() if hasattr(key, "public_key") else key, name)
    return LocalKey(key, name)
