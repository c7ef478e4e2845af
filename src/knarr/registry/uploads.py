"""Uploads under way: files that grow, and are what the server knows about them.

An upload is a file under `uploads/` of the store. Its name is its identity: random
bits, the repository it was begun in (as a hash) and the digest algorithm that the
client announced. Its length is its offset. So nothing is lost with the process,
and no answer about an offset can be wrong. Only the running hash lives in memory;
whoever continues an upload after a restart has it made again from the file.

All of this blocks, and runs on worker threads; one thread at a time has an upload.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from knarr import disk, linux
from knarr.content.store import Store
from knarr.errors import ContentError
from knarr.registry.refusal import digest_invalid, upload_unknown
from knarr.spec.digest import Digest
from knarr.streams import CHUNK

_ID = re.compile(r"[0-9a-f]{32}-([0-9a-f]{16})-(sha256|sha384|sha512)")
_EARLY = 16 << 20  # bytes after which the disk begins: the fsync of 1 GiB at the end took 0.35 of 2.8 s
_REMEMBERED = 1000  # running hashes; the others are made again


class Upload:
    """One upload, open for adding to it. Leave its `with` block to close the file."""

    def __init__(self, path: str, algorithm: str) -> None:
        self.path = path
        self.algorithm = algorithm
        self.size = 0
        self._hash = hashlib.new(algorithm)
        self._fd = -1
        self._begun = 0  # bytes that the kernel was asked to write to the disk

    def open(self) -> None:
        """Make ready to add: the file's length is the offset, and the hash catches up with it.

        Raises:
            Refusal: BLOB_UPLOAD_UNKNOWN.
        """
        self.close()
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise upload_unknown() from None
        size = os.fstat(self._fd).st_size
        if size != self.size:
            self._hash, self.size = _hashed(self.path, self.algorithm), size

    def write(self, pieces: list[bytes]) -> None:
        """Add `pieces`.

        Raises:
            ContentError: the disk is full or broken; the offset is where the file ends.
        """
        for piece in pieces:
            view = memoryview(piece)
            try:
                while view:
                    written = os.write(self._fd, view)
                    self._hash.update(view[:written])
                    self.size += written
                    view = view[written:]
            except OSError as error:
                raise _translated(error, self.path) from error
        if self.size - self._begun >= _EARLY:
            linux.begin_to_write(self._fd, self._begun, self.size - self._begun)
            self._begun = self.size

    def digest(self, algorithm: str) -> Digest:
        """Of all that was sent; by the announced algorithm it is known already."""
        known = self._hash if algorithm == self.algorithm else _hashed(self.path, algorithm)
        return Digest(f"{algorithm}:{known.hexdigest()}")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Uploads:
    """The uploads of one store. The event loop calls `begin` and `find`; an upload's own methods are for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = os.path.join(store.root, "uploads")
        self._known: dict[str, Upload] = {}
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def begin(self, repository: str, algorithm: str = "sha256") -> str:
        """A new upload into `repository`; returns its name.

        Raises:
            ContentError: the disk is full or broken.
        """
        name = f"{os.urandom(16).hex()}-{_mark(repository)}-{algorithm}"
        path = os.path.join(self._directory, name)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise _translated(error, path) from error
        self._remember(name, Upload(path, algorithm))
        return name

    def find(self, repository: str, name: str) -> Upload:
        """The upload of that name.

        Raises:
            Refusal: BLOB_UPLOAD_UNKNOWN: there is none in this repository.
        """
        match = _ID.fullmatch(name)
        path = os.path.join(self._directory, name)
        if match is None or match[1] != _mark(repository) or not os.path.exists(path):
            self._known.pop(name, None)
            raise upload_unknown()
        upload = self._known.get(name)
        if upload is None:
            upload = Upload(path, match[2])
            self._remember(name, upload)
        return upload

    def offset(self, upload: Upload) -> int:
        """How many bytes of it are here.

        Raises:
            Refusal: BLOB_UPLOAD_UNKNOWN.
        """
        try:
            return os.stat(upload.path).st_size
        except FileNotFoundError:
            raise upload_unknown() from None

    def finish(self, upload: Upload, expected: Digest) -> int:
        """Make a blob of it and return its size. One that is not `expected` is dropped.

        Raises:
            Refusal: DIGEST_INVALID, BLOB_UPLOAD_UNKNOWN.
            ContentError: the disk is full or broken.
        """
        upload.open()
        try:
            found = upload.digest(expected.algorithm)
        finally:
            upload.close()
        if found != expected:
            self.cancel(upload)
            raise digest_invalid("what was uploaded has another digest", digest=str(expected), received=str(found))
        self._store.adopt(Path(upload.path), expected)
        self._forget(upload)
        return upload.size

    def cancel(self, upload: Upload) -> None:
        """Drop it. Whoever is adding to it writes into the void."""
        with suppress(FileNotFoundError):
            os.unlink(upload.path)
        self._forget(upload)

    def count(self) -> int:
        """How many there are."""
        return len(os.listdir(self._directory))

    def sweep(self, idle_s: float) -> int:
        """Drop the uploads that nobody has added to for so long; returns the bytes freed."""
        freed = 0
        for entry in os.scandir(self._directory):
            with suppress(FileNotFoundError):
                known = entry.stat()
                if time.time() - known.st_mtime > idle_s:
                    os.unlink(entry.path)
                    freed += known.st_size
        return freed

    def _remember(self, name: str, upload: Upload) -> None:
        while len(self._known) >= _REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[name] = upload

    def _forget(self, upload: Upload) -> None:
        self._known.pop(os.path.basename(upload.path), None)


def _mark(repository: str) -> str:
    return hashlib.sha256(repository.encode()).hexdigest()[:16]


def _hashed(path: str, algorithm: str) -> hashlib._Hash:
    found = hashlib.new(algorithm)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            found.update(data)
    return found


def _translated(error: OSError, path: str) -> ContentError:
    if disk.lacks_room(error):
        return disk.no_room(os.path.dirname(path))
    return ContentError(f"{path}: {error.strerror}")
