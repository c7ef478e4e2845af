"""The content store on disk: an OCI image layout of blobs, with names, leases and sources beside it.

`blobs/<algorithm>/<hex>` holds what is complete and nothing else. A blob is
written under `ingest/` and renamed, so a process that is killed leaves no half
blob where anybody looks.

**Power cuts.** By default a commit does not wait for the disk: a layer that was
just built can be built again, and fsync would cost more than compressing it.
A file whose data never reached the disk may then carry its final name after a
power cut. The store tells such files by two facts: a blob is mode 0644 until it
is known to be on the disk (0444 afterwards), and its change time lies before
the machine's present boot. It hashes such a blob at first use and drops it if
it is damaged. With `durable` every commit waits, and blobs begin as 0444: right
for a registry that promises to keep what it accepted.

    store = Store(Path("/var/lib/knarr/content"))
    descriptor = store.put("text/plain", b"hello")
    with store.open(descriptor) as stream:
        ...

Spec: image-spec v1.1, image-layout.md (`index.json` stays empty: names are in the database).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from knarr import disk
from knarr.content.database import Database
from knarr.content.ingest import SYNCED, Ingest, sync_blob, sync_directory
from knarr.content.lease import Leases
from knarr.content.names import Names
from knarr.content.sources import Sources
from knarr.content.target import Report
from knarr.errors import ContentError, DigestMismatch, NotFound, SizeMismatch
from knarr.owner import remove_abandoned
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, Readable, VerifiedReader

if TYPE_CHECKING:
    from knarr.content.growth import Growth

MAX_READ = 8 << 20  # bytes `read` gives at once: twice the largest manifest a registry must take
_TOUCH_AFTER_S = 600.0  # a blob's time of last use is exact to this much


class Store:
    """Blobs by digest, and the tables about them. Safe from many threads and processes at once."""

    def __init__(self, root: Path, *, durable: bool = False) -> None:
        self.root = root
        self._durable = durable
        self._blobs = os.path.join(root, "blobs")
        self._ingest = os.path.join(root, "ingest")
        self._ready: set[str] = set()
        self._lock = threading.Lock()
        self._count = 0
        self._token = os.urandom(6).hex()

    @cached_property
    def database(self) -> Database:
        self._prepare("sha256")
        return Database(self.root / "meta.db", durable=self._durable)

    @cached_property
    def names(self) -> Names:
        return Names(self.database)

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.database, self.root / "owners")

    @cached_property
    def sources(self) -> Sources:
        return Sources(self.database)

    def close(self) -> None:
        """Drop what is still being written, release this process's leases and close the database.

        The store may be used again afterwards.
        """
        if self._count:  # an interrupt may come between making a file and entering its `with` block
            for name in _listed(self._ingest):
                if name.startswith(self._prefix()):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(os.path.join(self._ingest, name))
        if "database" in self.__dict__:
            if "leases" in self.__dict__:
                self.leases.close()
            self.database.close()

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return Path(self._place(digest))

    def find(self, digest: Digest) -> int | None:
        """The size of the blob, or None when it is not here, whole. Counts as a use."""
        try:
            known = os.stat(self._place(digest))
        except FileNotFoundError:
            return None
        if not self._is_trusted(digest, known):
            return None
        self._touch(digest, known)
        return known.st_size

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the content is here, whole."""
        return self.find(descriptor.digest) == descriptor.size

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """The content as a stream. It was verified when it came in, and is not hashed once more.

        Raises:
            NotFound: no such blob.
            SizeMismatch: the blob is here, but `descriptor` gives another size.
        """
        size = self.find(descriptor.digest)
        if size is None:
            raise NotFound(f"blob {descriptor.digest} is not in the store")
        if size != descriptor.size:
            raise SizeMismatch(f"blob {descriptor.digest}: expected {descriptor.size} bytes, got {size}")
        try:
            return open(self._place(descriptor.digest), "rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"blob {descriptor.digest} is not in the store") from None

    def read(self, descriptor: Descriptor) -> bytes:
        """The whole of something small, verified once more.

        Raises:
            NotFound, SizeMismatch, DigestMismatch
            ContentError: over 8 MiB.
        """
        if descriptor.size > MAX_READ:
            raise ContentError(f"blob {descriptor.digest}: {descriptor.size} bytes are too many to read at once")
        with self.open(descriptor) as stream:
            data = stream.read(descriptor.size) if descriptor.size else b""
        if _digest_of(data, descriptor.digest.algorithm) != descriptor.digest:
            raise DigestMismatch(
                f"blob {descriptor.digest} is damaged in the store",
                hint="check the disk, then run: knarr doctor --store",
            )
        return data

    def put(self, media_type: str, data: bytes) -> Descriptor:
        """Store something small that was just made, and describe it."""
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        if not self.has(descriptor):
            with self.ingest() as blob:
                blob.write(data)
                blob.commit(expected=descriptor)
        return descriptor

    def push(
        self,
        descriptor: Descriptor,
        content: Readable,
        *,
        report: Report | None = None,
        growth: Growth | None = None,
    ) -> None:
        """Store `content`, visible only when it is what `descriptor` says. Already here: `content` is not read.

        Content that verifies itself against the same digest is not hashed once
        more. `growth` is told of every byte, for who follows; its end is the caller's to tell.

        Raises:
            DigestMismatch, SizeMismatch
        """
        if self.has(descriptor):
            return
        proven = isinstance(content, VerifiedReader) and content.digest == descriptor.digest
        with self._writer(descriptor.digest.algorithm, proven=descriptor.digest if proven else None) as blob:
            if growth is not None:
                growth.begin(blob.path)
            while data := content.read(CHUNK):
                blob.write(data)
                if blob.size > descriptor.size:
                    raise SizeMismatch(f"blob {descriptor.digest}: expected {descriptor.size} bytes, got more")
                if growth is not None:
                    growth.advance(blob.size)
                if report is not None:
                    report(blob.size)
            blob.commit(expected=descriptor)

    def ingest(self, *, algorithm: str = "sha256") -> Ingest:
        """A writer for a blob whose digest is not known yet: see `Ingest`."""
        return self._writer(algorithm)

    def _writer(self, algorithm: str, *, proven: Digest | None = None) -> Ingest:
        self._prepare(algorithm)
        with self._lock:
            self._count += 1
            number = self._count
        name = f"{self._prefix()}{number}"
        path = os.path.join(self._ingest, name)
        return Ingest(path, self._place, algorithm=algorithm, durable=self._durable, proven=proven)

    def link_in(self, path: Path, media_type: str = "", *, expected: Descriptor | None = None) -> Descriptor:
        """Take in a file of this machine: cloned where the file system can do that, else copied in the kernel.

        Never a hard link: whoever owns the file may write to it later.
        """
        with self.ingest() as blob, open(path, "rb", buffering=0) as source:
            blob.copy_from(source.fileno())
            return blob.commit(media_type, expected=expected)

    def adopt(self, path: Path, digest: Digest) -> None:
        """Take in the file at `path`, on the store's own file system, which is known to hash to `digest`: rename it.

        Raises:
            ContentError: the disk is full or broken.
        """
        self._prepare(digest.algorithm)
        place = self._place(digest)
        try:
            if self._durable:
                sync_blob(path)
            os.utime(path)  # it may have been written long ago; the collector spares what is new here
            os.rename(path, place)
            if self._durable:
                sync_directory(os.path.dirname(place))
        except OSError as error:
            raise (
                disk.no_room(self.root) if disk.lacks_room(error) else ContentError(f"{path}: {error.strerror}")
            ) from error

    def settle(self, digest: Digest) -> None:
        """See that a blob which came in without waiting for the disk is on it."""
        place = self._place(digest)
        if stat.S_IMODE(os.stat(place).st_mode) != SYNCED:
            sync_blob(place)
            sync_directory(os.path.dirname(place))

    def delete(self, digest: Digest) -> bool:
        """Remove a blob, held by a lease or not. False: it was not here."""
        try:
            os.unlink(self._place(digest))
        except FileNotFoundError:
            return False
        return True

    def walk(self) -> Iterator[tuple[Digest, os.stat_result]]:
        """Every blob here, with its file's status."""
        for algorithm in _listed(self._blobs):
            for name in _listed(os.path.join(self._blobs, algorithm)):
                try:
                    digest = Digest.parse(f"{algorithm}:{name}")
                    yield digest, os.stat(self._place(digest))
                except (ContentError, FileNotFoundError):
                    continue  # not ours, or just removed

    def check(self, *, on_each: Callable[[Digest], None] | None = None) -> tuple[Digest, ...]:
        """Hash every blob; returns those that are damaged. Nothing is removed."""
        damaged = []
        for digest, known in self.walk():
            if on_each is not None:
                on_each(digest)
            if not self._hashes(digest, known):
                damaged.append(digest)
        return tuple(damaged)

    def resolve(self, name: str) -> Descriptor:
        """The descriptor an image name or a digest text leads to.

        Raises:
            NotFound
        """
        if name.startswith(("sha256:", "sha512:", "sha384:")):
            return self._describe(Digest.parse(name))
        found = self.names.get(name)
        if found is None:
            raise NotFound(f"no image is named {name}")
        return found.descriptor

    def tag(self, descriptor: Descriptor, name: str) -> None:
        """Let `name` lead to `descriptor`, whose manifest must be here (its layers need not).

        Raises:
            NotFound
        """
        if not self.has(descriptor):
            raise NotFound(f"{name}: manifest {descriptor.digest} is not in the store")
        self.names.set(name, descriptor)

    def sweep_ingest(self) -> int:
        """Remove what killed writers left under `ingest/`; returns the bytes freed. Cheap: one directory listing."""
        return sum(remove_abandoned(os.path.join(self._ingest, name)) for name in _listed(self._ingest))

    def _prefix(self) -> str:
        """What the names of files begin with that are written through this object in this process."""
        return f"{os.getpid()}-{self._token}-"

    def _describe(self, digest: Digest) -> Descriptor:
        from knarr.spec.manifest import MAX_MANIFEST_BYTES, decode

        size = self.find(digest)
        if size is None:
            raise NotFound(f"manifest {digest} is not in the store")
        if size > MAX_MANIFEST_BYTES:
            raise NotFound(f"{digest} is a blob of {size} bytes, not a manifest")
        return Descriptor(decode(self.read(Descriptor("", digest, size))).media_type, digest, size)

    def _place(self, digest: Digest) -> str:
        algorithm, _, value = digest.partition(":")
        return f"{self._blobs}/{algorithm}/{value}"

    def _prepare(self, algorithm: str) -> None:
        """Make the directories, once per process."""
        if algorithm in self._ready:
            return
        os.makedirs(os.path.join(self._blobs, algorithm), exist_ok=True)
        os.makedirs(self._ingest, exist_ok=True)
        for name, text in (
            ("oci-layout", '{"imageLayoutVersion":"1.0.0"}'),
            ("index.json", '{"schemaVersion":2,"manifests":[]}'),
        ):
            target = os.path.join(self.root, name)
            if not os.path.exists(target):
                mine = f"{target}.{os.urandom(4).hex()}"
                with open(mine, "w", encoding="ascii") as file:
                    file.write(text)
                os.rename(mine, target)
        self._ready.add(algorithm)

    def _is_trusted(self, digest: Digest, known: os.stat_result) -> bool:
        """Whether the file is whole: see the module's word on power cuts."""
        if stat.S_IMODE(known.st_mode) == SYNCED or known.st_ctime > _boot_time():
            return True
        place = self._place(digest)
        if not self._hashes(digest, known):
            os.unlink(place)
            return False
        sync_blob(place)  # in the page cache it may be right without being on the disk
        sync_directory(os.path.dirname(place))
        return True

    def _hashes(self, digest: Digest, known: os.stat_result) -> bool:
        try:
            with open(self._place(digest), "rb", buffering=0) as file:
                return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.hex
        except FileNotFoundError:
            return True  # collected meanwhile: nothing damaged is visible

    def _touch(self, digest: Digest, known: os.stat_result) -> None:
        """Note the use: the collector spares what was used lately."""
        if time.time() - known.st_mtime > _TOUCH_AFTER_S:
            try:
                os.utime(self._place(digest))
            except (FileNotFoundError, PermissionError):
                return


def _boot_time() -> float:
    """When this machine started, in seconds since 1970, by the clock as it is now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _digest_of(data: bytes, algorithm: str) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
