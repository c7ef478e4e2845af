"""Signatures of OpenPGP over files, checked by gpgv: it reads one keyring, trusts all of it, and asks nobody.

Spec: RFC 4880 (armor: §6.2). What is accepted is what BuildKit's util/pgpsign accepts at v0.33: SHA-2 digests, keys
of RSA, ECDSA and EdDSA, also expired ones, but no revoked ones. Tried with gpgv 2.2.40 (Debian 12).
"""

from __future__ import annotations

import base64
import binascii
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from knarr.errors import KnarrError, UsageError

_DIGESTS = ("8", "9", "10")  # SHA256, SHA384, SHA512, by RFC 4880 §9.4
_KEYS = ("1", "3", "19", "22")  # RSA, ECDSA, EdDSA, by §9.1 and its successors
_PUBLIC, _SIGNATURE = "PGP PUBLIC KEY BLOCK", "PGP SIGNATURE"
_AHEAD_S = 300  # by which a signer's clock may be wrong
LONG_S = 60.0  # for a program that looks at one file


def verify(data: Path, signature: bytes, keys: bytes, *, rejects_expired: bool = False) -> None:
    """Check the armored detached `signature` over the file `data`; one of the armored `keys` must have made it.

    Raises:
        KnarrError: none of them did, or it is not to be trusted.
        UsageError: there is no signature, or no key.
    """
    with tempfile.TemporaryDirectory(prefix="knarr-pgp-") as place:
        keyring, signed = Path(place, "keyring.gpg"), Path(place, "signature")
        keyring.write_bytes(b"".join(_blocks(keys, _PUBLIC)))
        signed.write_bytes(next(_blocks(signature, _SIGNATURE)))
        told = _ask(place, keyring, signed, data)
    why = _doubt(told, rejects_expired=rejects_expired)
    if why:
        hint = "the file, the signature or the key is not the one that was meant"
        raise KnarrError(f"failed to verify pgp signature: {why}", hint=hint)


def _ask(place: str, keyring: Path, signature: Path, data: Path) -> list[list[str]]:
    """What gpgv says, as the words of its status lines."""
    words = ["gpgv", "--homedir", place, "--status-fd", "1", "--keyring", str(keyring), str(signature), str(data)]
    try:
        done = subprocess.run(words, capture_output=True, timeout=LONG_S, check=False)
    except FileNotFoundError:
        raise KnarrError("gpgv is not installed, which checks signatures", hint="apt-get install gpgv") from None
    except subprocess.TimeoutExpired:
        raise KnarrError(f"gpgv has not checked the signature within {LONG_S:.0f} seconds") from None
    lines = done.stdout.decode(errors="replace").splitlines()
    return [line.split()[1:] for line in lines if line.startswith("[GNUPG:] ")]


def _doubt(told: list[list[str]], *, rejects_expired: bool) -> str:
    """Why a signature does not count; empty: it does. GOODSIG alone says nothing of how it was made: VALIDSIG does."""
    by_kind = {words[0]: words[1:] for words in told if words}
    for kind, why in (
        ("BADSIG", "it is not of this file"),
        ("REVKEYSIG", "its key is revoked"),
        ("EXPSIG", "it has expired"),
        ("NO_PUBKEY", f"no key is given that could have made it ({' '.join(by_kind.get('NO_PUBKEY', ()))})"),
    ):
        if kind in by_kind:
            return why
    valid = by_kind.get("VALIDSIG")
    if valid is None or len(valid) < 8 or not ({"GOODSIG", "EXPKEYSIG"} & by_kind.keys()):
        return "it cannot be checked"
    if rejects_expired and "EXPKEYSIG" in by_kind:
        return "its key has expired"
    if valid[7] not in _DIGESTS:
        return f"its digest is weak (algorithm {valid[7]})"
    if valid[6] not in _KEYS:
        return f"its key is of a kind that is not accepted (algorithm {valid[6]})"
    if int(valid[2]) > time.time() + _AHEAD_S:
        return "it was made in the future"
    return ""


def _blocks(text: bytes, kind: str) -> Iterator[bytes]:
    """The bytes of each armored block of a kind."""
    begin, end = f"-----BEGIN {kind}-----", f"-----END {kind}-----"
    rest = text.decode("ascii", errors="replace").replace("\r\n", "\n")
    found = False
    while begin in rest:
        _, _, rest = rest.partition(begin)
        inside, closed, rest = rest.partition(end)
        _, _, body = inside.lstrip(" \t").partition("\n\n")  # behind the headers
        lines = [line for line in body.split("\n") if line and not line.startswith("=")]  # the last is a checksum
        try:
            yield base64.b64decode("".join(lines), validate=True)
        except binascii.Error:
            raise UsageError(f"an armored block of {kind} cannot be decoded") from None
        found = bool(closed)
    if not found:
        raise UsageError(f"no {kind} was given", hint="armored, as gpg --armor writes it")
