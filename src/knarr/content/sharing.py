"""A store that client and server have in common: how they find out, and how a blob is lent instead of sent.

The server says which store it has, by a hash of a secret that lies in the store.
A client that can read that secret could read every blob anyway; it proves so for
one upload and one digest, and the server takes the blob from the store. The secret
itself is never sent, and a proof is good for nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from knarr.spec.digest import Digest

ANNOUNCED = "Knarr-Store"  # header of the answer that begins an upload
PROOF = "Knarr-Store-Proof"  # header of the request that ends it without a body
_FILE = "store.key"


def secret(place: Path) -> bytes:
    """The random key kept in the file `place`, made on first use; only its owner may read it."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        mine = place.with_name(f".{place.name}.{os.urandom(4).hex()}")
        fd = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(os.urandom(32))
        try:
            os.link(mine, place)  # whoever is first wins, and both read the same
        except FileExistsError:
            pass
        finally:
            os.unlink(mine)
        return place.read_bytes()


class Sharing:
    """The lender's and the taker's side for the store at `root`."""

    def __init__(self, root: Path) -> None:
        self._key = secret(root / _FILE)

    @property
    def identity(self) -> str:
        """What the server announces."""
        return hashlib.sha256(b"knarr store " + self._key).hexdigest()[:32]

    def proof(self, upload: str, digest: Digest) -> str:
        """For one upload, by the last part of its path, and one digest."""
        return hmac.digest(self._key, f"{upload} {digest}".encode(), "sha256").hex()

    def is_proven(self, proof: str, upload: str, digest: Digest) -> bool:
        """Whether the proof is right."""
        return hmac.compare_digest(proof, self.proof(upload, digest))


def lent(store: str, announced: str, upload: str, digest: Digest) -> str:
    """The proof to send, if the store at the path `store` is the one that was announced and has the blob; else ""."""
    root = Path(store)
    algorithm, _, value = digest.partition(":")
    if not (root / "blobs" / algorithm / value).is_file():
        return ""
    try:
        sharing = Sharing(root)
    except OSError:
        return ""
    return sharing.proof(upload, digest) if sharing.identity == announced else ""
