"""A bundle as a stream of bytes whose every place is known before anything is read. Pure.

The stream is a tar of an OCI layout. It is cut into volumes of equal size; each can be
made by itself, which is how an interrupted bundle goes on.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256

from knarr.image.closure import Closure
from knarr.image.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, blob_path, encode_layout_index, named
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import encode_index
from knarr.spec.reference import Reference
from knarr.spec.referrers import fallback_tag


@record
class Piece:
    """A stretch of the stream: bytes that are known, or a blob that is to be read."""

    start: int
    size: int
    data: bytes | None = None
    blob: Descriptor | None = None


@record
class BundlePlan:
    """The whole stream."""

    pieces: tuple[Piece, ...]
    size: int
    included: tuple[Descriptor, ...]  # blobs that travel
    assumed: tuple[Digest, ...]  # blobs that the far side has

    @property
    def fingerprint(self) -> str:
        """The same for the same stream."""
        marks = sha256()
        for piece in self.pieces:
            marks.update(piece.data if piece.data is not None else str(piece.blob and piece.blob.digest).encode())
        return marks.hexdigest()

    def volumes(self, size: int) -> Iterator[tuple[int, int]]:
        """Start and length of each volume of at most `size` bytes; 0: one volume."""
        step = size or max(self.size, 1)
        for start in range(0, self.size, step):
            yield start, min(step, self.size - start)

    def within(self, start: int, length: int) -> Iterator[tuple[Piece, int, int]]:
        """The pieces of a stretch, each with the part of it that lies there (from, to; counted in the piece)."""
        end = start + length
        for piece in self.pieces:
            if piece.start < end and piece.start + piece.size > start:
                yield piece, max(start - piece.start, 0), min(end - piece.start, piece.size)


def plan(images: Sequence[tuple[str, Closure]], has: Iterable[Digest]) -> BundlePlan:
    """The bundle of images, each with its whole name, for a far side that has the blobs `has`.

    Manifests always travel: they are small, and who loads needs them to know what there is.
    """
    there = set(has)
    files: dict[str, bytes] = {LAYOUT_FILE: LAYOUT_VERSION}
    blobs: dict[Digest, Descriptor] = {}
    assumed: dict[Digest, None] = {}
    entries: list[Descriptor] = []
    for name, closure in images:
        entries += _entries(name, closure, files)
        files.update((blob_path(digest), node.raw) for digest, node in closure.nodes.items())
        for blob in closure.blobs:
            if blob.digest in there:
                assumed[blob.digest] = None
            else:
                blobs[blob.digest] = blob
    files[INDEX_FILE] = encode_layout_index(entries)
    pieces = tuple(_pieces(files, {blob_path(blob.digest): blob for blob in blobs.values()}))
    size = pieces[-1].start + pieces[-1].size
    return BundlePlan(pieces, size, tuple(blobs.values()), tuple(assumed))


def _entries(name: str, closure: Closure, files: dict[str, bytes]) -> Iterator[Descriptor]:
    """What the layout's index lists for one image: itself, its digest tags, lists of referrers; all by whole names."""
    reference = Reference.parse(name)
    repository = f"{reference.registry}/{reference.repository}"
    yield named(closure.root.bare(), name)
    for tag, digest in closure.digest_tags.items():
        yield named(closure.nodes[digest].document.descriptor.bare(), f"{repository}:{tag}")
    for subject, listed in closure.referrers.items():
        index = encode_index(listed)
        files[blob_path(index.descriptor.digest)] = index.raw
        yield named(index.descriptor.bare(), f"{repository}:{fallback_tag(subject)}")


def _pieces(files: Mapping[str, bytes], blobs: Mapping[str, Descriptor]) -> Iterator[Piece]:
    at = 0
    folders = {"blobs/"} | {f"{name.rpartition('/')[0]}/" for name in (*files, *blobs) if name.startswith("blobs/")}
    for name in sorted((*folders, *files, *blobs)):
        blob = blobs.get(name)
        data = files.get(name, b"")
        size = blob.size if blob is not None else len(data)
        header = _header(name, size)
        yield Piece(at, len(header), header)
        at += len(header)
        if size:
            yield Piece(at, size, None if blob else data, blob)
            at += size
        padding = -size % tarfile.BLOCKSIZE
        if padding:
            yield Piece(at, padding, bytes(padding))
            at += padding
    end = bytes(2 * tarfile.BLOCKSIZE)
    yield Piece(at, len(end), end)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o755 if name.endswith("/") else 0o644
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    return info.tobuf(tarfile.PAX_FORMAT)
