"""One blob on its way into the store: hashed while it is written, visible only when it is whole.

The bytes go to a file of their own under `ingest/`, which its writer keeps
locked (flock) for as long as it lives, so that a file nobody has locked is what
a killed process left. `commit` renames it to its digest.

    with store.ingest() as blob:
        for data in chunks(stream):
            blob.write(data)
        descriptor = blob.commit(media_type)
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from knarr import disk
from knarr.errors import ContentError, DigestMismatch, SizeMismatch
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

UNSYNCED = 0o644  # mode of a blob that the disk may not have yet: see `store`
SYNCED = 0o444


class Ingest:
    """A writer. Leaving the `with` block without `commit` drops what was written.

    One thread at a time may use it. What is `proven` to have a digest, because it
    was verified on its way here, is not hashed.
    """

    def __init__(
        self,
        path: str,
        place: Callable[[Digest], str],
        *,
        algorithm: str,
        durable: bool,
        proven: Digest | None = None,
    ) -> None:
        self._path = path
        self._place = place
        self._algorithm = algorithm
        self._durable = durable
        self._proven = proven
        self._hash = hashlib.new(algorithm)
        self.size = 0
        try:
            self._fd = _newborn(path)
        except OSError as error:
            raise _disk(error, path) from error

    def __enter__(self) -> Ingest:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.abort()

    def write(self, data: bytes, /) -> int:
        """Append `data`.

        Raises:
            ContentError: the disk is full or broken; what was written so far is dropped.
        """
        if self._proven is None:
            self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.abort()
            raise _disk(error, self._path) from error
        self.size += len(data)
        return len(data)

    def copy_from(self, source: int) -> None:
        """Append the rest of the open file `source`, cloned where the file system can do that."""
        try:
            while os.copy_file_range(source, self._fd, 1 << 30):
                pass
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                self.abort()
                raise _disk(error, self._path) from error
            os.lseek(source, self.size, os.SEEK_SET)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            while data := os.read(source, 1 << 20):
                self.write(data)
            return
        # Hash the copy and not the source: only what the store holds matters, and the source may change.
        os.lseek(self._fd, self.size, os.SEEK_SET)
        while data := os.read(self._fd, 1 << 20):
            self._hash.update(data)
            self.size += len(data)

    @property
    def path(self) -> str:
        """Where the bytes are until `commit`."""
        return self._path

    @property
    def digest(self) -> Digest:
        """Of what was written so far."""
        return self._proven or Digest(f"{self._algorithm}:{self._hash.hexdigest()}")

    def commit(self, media_type: str = "", *, expected: Descriptor | None = None) -> Descriptor:
        """Make the blob visible and describe it: `expected` if given, else a new descriptor.

        Raises:
            SizeMismatch, DigestMismatch: it is not what was expected; nothing is visible then.
            ContentError: the disk is full or broken.
        """
        digest = self.digest
        if expected is not None:
            self._compare(expected, digest)
        try:
            self._publish(self._place(digest))
        except OSError as error:
            raise _disk(error, self._path) from error
        finally:
            self.abort()
        return expected or Descriptor(media_type, digest, self.size)

    def _compare(self, expected: Descriptor, digest: Digest) -> None:
        if self.size != expected.size:
            self.abort()
            raise SizeMismatch(f"blob {expected.digest}: expected {expected.size} bytes, got {self.size}")
        if digest != expected.digest:
            self.abort()
            raise DigestMismatch(f"blob: expected {expected.digest}, got {digest}")

    def _publish(self, target: str) -> None:
        if self._durable:
            os.fdatasync(self._fd)
            os.fchmod(self._fd, SYNCED)
        # Two writers of one blob both rename: the bytes are equal, and a reader of the first keeps its file.
        os.rename(self._path, target)
        self._path = ""
        if self._durable:
            sync_directory(os.path.dirname(target))

    def abort(self) -> None:
        """Drop what was written, unless it was committed. May be called twice."""
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = ""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _newborn(path: str) -> int:
    """A new file, locked. A sweeper may meet it before it is locked and remove it: then another is made."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, UNSYNCED)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _disk(error: OSError, path: str) -> ContentError:
    if disk.lacks_room(error):
        return disk.no_room(os.path.dirname(path))
    return ContentError(f"{path}: {error.strerror}")


def sync_blob(path: str | os.PathLike[str]) -> None:
    """Let the bytes of the file survive a power cut, and mark it as one that does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
        os.fchmod(descriptor, SYNCED)
    finally:
        os.close(descriptor)


def sync_directory(path: str) -> None:
    """Let a rename in `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
