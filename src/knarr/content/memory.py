"""A content store in memory: for tests, and for small things that need no disk."""

from __future__ import annotations

import io
import threading
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from knarr.content.target import Report
from knarr.errors import DigestMismatch, NotFound, SizeMismatch
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import decode
from knarr.streams import CHUNK, HashingWriter, Readable, VerifiedReader


class MemoryStore:
    """Blobs and names in two dicts. Safe from many threads. `blobs` and `tags` are open to tests that damage them."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.tags: dict[str, Descriptor] = {}
        self._lock = threading.Lock()

    def find(self, digest: Digest) -> int | None:
        """The size of the blob, or None when it is not here."""
        data = self.blobs.get(digest)
        return None if data is None else len(data)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content is here, whole."""
        return self.find(descriptor.digest) == descriptor.size

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The content as a stream that verifies itself.

        Raises:
            NotFound: no such blob.
        """
        data = self.blobs.get(descriptor.digest)
        if data is None:
            raise NotFound(f"blob {descriptor.digest} is not in the store")
        return nullcontext(VerifiedReader(io.BytesIO(data), descriptor.digest, descriptor.size))

    def read(self, descriptor: Descriptor) -> bytes:
        """The whole content, verified."""
        with self.open(descriptor) as stream:
            return stream.read()

    def put(self, media_type: str, data: bytes) -> Descriptor:
        """Store `data` and describe it."""
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        with self._lock:
            self.blobs[descriptor.digest] = data
        return descriptor

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        """Store `content` if it is what `descriptor` says.

        Raises:
            DigestMismatch, SizeMismatch
        """
        if self.has(descriptor):
            return
        with self.ingest(algorithm=descriptor.digest.algorithm) as blob:
            while data := content.read(CHUNK):
                blob.write(data)
                if report is not None:
                    report(blob.size)
            blob.commit(expected=descriptor)

    def ingest(self, *, algorithm: str = "sha256") -> MemoryIngest:
        """A writer for a blob whose digest is not known yet."""
        return MemoryIngest(self, algorithm)

    def delete(self, digest: Digest) -> bool:
        """Remove a blob. False: it was not here."""
        with self._lock:
            return self.blobs.pop(digest, None) is not None

    def resolve(self, name: str) -> Descriptor:
        """The descriptor a name or a digest text leads to.

        Raises:
            NotFound
        """
        if name in self.tags:
            return self.tags[name]
        data = self.blobs.get(Digest(name))
        if data is None:
            raise NotFound(f"no image is named {name}")
        return Descriptor(decode(data).media_type, Digest(name), len(data))

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Let `name` lead to `descriptor`.

        Raises:
            NotFound: its manifest is not here.
        """
        if not self.has(descriptor):
            raise NotFound(f"{name}: manifest {descriptor.digest} is not in the store")
        self.tags[name] = descriptor


class MemoryIngest:
    """The writer `MemoryStore.ingest` gives: like `content.ingest.Ingest`."""

    def __init__(self, store: MemoryStore, algorithm: str) -> None:
        self._store = store
        self._buffer = io.BytesIO()
        self._hashing = HashingWriter(self._buffer, algorithm)

    def __enter__(self) -> MemoryIngest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._buffer.close()

    @property
    def size(self) -> int:
        return self._hashing.size

    @property
    def digest(self) -> Digest:
        """Of what was written so far."""
        return self._hashing.digest

    def write(self, data: bytes, /) -> int:
        return self._hashing.write(data)

    def commit(self, media_type: str = "", *, expected: Descriptor | None = None) -> Descriptor:
        """Make the blob visible and describe it.

        Raises:
            SizeMismatch, DigestMismatch: it is not what was expected.
        """
        made = Descriptor(media_type, self.digest, self.size)
        if expected is not None and made.size != expected.size:
            raise SizeMismatch(f"blob {expected.digest}: expected {expected.size} bytes, got {made.size}")
        if expected is not None and made.digest != expected.digest:
            raise DigestMismatch(f"blob: expected {expected.digest}, got {made.digest}")
        with self._store._lock:
            self._store.blobs[made.digest] = self._buffer.getvalue()
        return expected or made
