"""Take over what another registry has on disk: blobs are hashed as they come in, referrers found anew.

What is here already is not read again, so an import that was broken off goes on.
A blob or manifest that is damaged or missing over there is told and left out; a
manifest that needs it is taken all the same: what the other registry could not
serve, this one cannot, either.

A referrer comes with its subject whether or not the other registry listed it: it is
found in the manifest itself. Fallback tags (`sha256-<hex>`) come as the tags they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from knarr.content.store import Store
from knarr.errors import ContentError
from knarr.record import record
from knarr.registry import manifests, tables
from knarr.registry.foreign import Holding
from knarr.registry.ledger import Ledger
from knarr.registry.refusal import Refusal
from knarr.registry.tables import Entry
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, Manifest


@record
class Adopted:
    """What came in of one repository."""

    name: str
    blobs: int
    manifests: int
    tags: int
    damaged: int


def adopt(store: Store, ledger: Ledger, holding: Holding, *, tell: Callable[[str], object]) -> Adopted:
    """Take over one repository. `tell` is given a line for each thing that cannot be taken.

    Raises:
        ContentError: our own disk is full or broken.
    """
    name = holding.name
    blobs = {
        digest: size for digest, path in holding.blobs.items() if (size := _blob(store, digest, path, name, tell)) >= 0
    }
    found = {
        digest: read
        for digest, path in holding.manifests.items()
        if (read := _manifest(store, digest, path, name, tell)) is not None
    }
    tags = {tag: digest for tag, digest in holding.tags.items() if digest in found}
    now = time.time_ns()

    def enter(db: tables.Connection) -> None:
        for digest, size in blobs.items():
            tables.add_blob(db, name, digest, size, now)
        for digest, (entry, document) in found.items():
            mine = [tag for tag, led in tags.items() if led == digest]
            manifests.add(db, name, entry, document, tags=mine, sparse="all")

    ledger.write(enter)
    lost = len(holding.blobs) - len(blobs) + len(holding.manifests) - len(found)
    return Adopted(name, len(blobs), len(found), len(tags), lost)


def _blob(store: Store, digest: Digest, path: Path, name: str, tell: Callable[[str], object]) -> int:
    """The size of the blob, which is now in the store; -1: it could not be had."""
    size = store.find(digest)
    if size is not None:
        store.settle(digest)
        return size
    try:
        length = path.stat().st_size
    except OSError as error:
        tell(f"{name}: blob {digest}: {path}: {error.strerror}")
        return -1
    try:
        store.link_in(path, expected=Descriptor("", digest, length))
    except ContentError as error:
        if error.hint:  # a full disk is ours
            raise
        tell(f"{name}: {error.message}")
        return -1
    return length


def _manifest(
    store: Store, digest: Digest, path: Path, name: str, tell: Callable[[str], object]
) -> tuple[Entry, Manifest | Index] | None:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise Refusal(413, "SIZE_INVALID", f"it is larger than {MAX_MANIFEST_BYTES} bytes")
        raw = path.read_bytes()
        manifests.check(raw, digest)
        found = manifests.read(raw, digest, "")
    except OSError as error:
        tell(f"{name}: manifest {digest}: {path}: {error.strerror}")
        return None
    except Refusal as refusal:
        tell(f"{name}: manifest {digest}: {refusal.message}")
        return None
    manifests.keep(store, raw, digest)
    return found
