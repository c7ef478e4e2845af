"""Cache records: what a solved vertex left behind.

A *record* is one link of a chain of changes: it has a parent record, and its own
change as a committed snapshot, as a layer blob, or both. The chain from the
bottom up is the tree. Base images are chains of records too (one per layer, id
`layer:<chainID>`), with blobs that may not be here yet (`remote`).
"""

from __future__ import annotations

from knarr.record import field, record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

RecordId = str
"""Opaque: `layer:sha256:…` for a layer of a base image, else the sha256 hex of a cache key (see `solver.keys`)."""

EMPTY = "layer:empty"  # the record of a tree without layers: it has neither snapshot nor blob, and is no link

SHARED = "shared"
"""In `history`: the shared cache a record was taken from, by its name for people. The blob may have gone since."""

CONTENT = "content:"
"""In `history`, before an input's number: what other builders call the content of that input (record digests)."""


@record
class Record:
    """One link. At least one of `snapshot` and `blob` is set, or `same_as` names the record that has them."""

    id: RecordId
    parent: RecordId | None = None
    snapshot: str | None = None  # name of a committed snapshot of the whole chain up to here
    blob: Descriptor | None = None  # this link's change as a compressed layer
    diff_id: Digest | None = None  # of the uncompressed layer; set whenever `blob` is
    same_as: RecordId | None = None  # a rebased link (merge): its change is that record's
    remote: tuple[str, ...] = ()  # repositories ("host/repo") that have the blob
    kind: str = "regular"  # regular, source.local, exec.cachemount, internal: classes of the GC policy
    description: str = ""  # for people
    size_bytes: int = 0  # disk use of the snapshot's own change
    created_ns: int = 0
    used_ns: int = 0
    uses: int = 0
    history: dict[str, str] = field(default_factory=dict, hash=False)
