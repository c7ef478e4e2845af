"""Make a layer blob from what writes a tar, in one pass: tar → hash → compress → hash → ingest.

The stages overlap: the caller's thread writes the tar, one thread takes its
diffID, `jobs` threads compress, and one hashes and stores the result. Nothing
is held but the chunks in between.

    packed = pack(lambda out: write_upper(upper, lowers, out), store, compression=Compression())
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from knarr.layer.compress import Compression, compressor
from knarr.layer.relay import WriteBehind
from knarr.record import record
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import HashingWriter, Writable


@record
class Packed:
    """A layer in the store."""

    descriptor: Descriptor
    diff_id: Digest
    uncompressed_size: int  # bytes of the tar


class Ingest(Protocol):
    """A blob being written: `content.ingest.Ingest` is one."""

    def write(self, data: bytes, /) -> int: ...

    def commit(self, media_type: str = "", *, expected: Descriptor | None = None) -> Descriptor: ...


class Ingester(Protocol):
    """What `pack` needs of a store."""

    def ingest(self) -> AbstractContextManager[Ingest]: ...


def pack(
    write_tar: Callable[[Writable], object],
    store: Ingester,
    *,
    compression: Compression | None = None,
    oci: bool = True,
    jobs: int = 0,
    check: Callable[[], None] | None = None,
) -> Packed:
    """Store what `write_tar` writes as a layer. The same tar gives the same blob, whatever `jobs` is.

    `oci` False gives Docker's media type. `jobs` 0 means one per core. `check` runs
    per chunk (cancellation). On failure nothing stays in the store.
    """
    compression = compression or Compression()
    diff = HashingWriter()
    with store.ingest() as blob:
        with (
            WriteBehind(diff) as hashed,
            WriteBehind(blob, depth=2) as stored,  # zstd gives whole jobs at a time, up to 4 MiB
            compressor(compression, stored, jobs=jobs, tail=hashed.write) as compressed,
        ):
            write_tar(_Tee(hashed, compressed, check))
        descriptor = blob.commit(mediatype.layer_type(compression.kind, oci=oci))
    if compressed.annotations:
        descriptor = descriptor.with_annotations(compressed.annotations)
    return Packed(descriptor, diff.digest, diff.size)


class _Tee:
    """Gives every chunk to two writers. Both keep it as it is: chunks are immutable."""

    def __init__(self, first: Writable, second: Writable, check: Callable[[], None] | None) -> None:
        self._first = first
        self._second = second
        self._check = check

    def write(self, data: bytes, /) -> int:
        if self._check is not None:
            self._check()
        self._first.write(data)
        self._second.write(data)
        return len(data)
