"""Readers and writers that hash, limit and verify on the way through.

Everything large travels as a `Readable`; buffers are counted in `CHUNK`s, so
memory never grows with a blob.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

from knarr.errors import DigestMismatch, SizeMismatch
from knarr.spec.digest import Digest

CHUNK = 1 << 20  # 1 MiB: past this, larger buffers gained nothing for hashing, copying or sockets


class Readable(Protocol):
    """The part of a binary file that a consumer of a stream needs."""

    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    """The part of a binary file that a producer needs."""

    def write(self, data: bytes, /) -> object: ...


def chunks(stream: Readable, size: int = CHUNK) -> Iterator[bytes]:
    """The stream as non-empty chunks of at most `size` bytes."""
    while data := stream.read(size):
        yield data


def copy(source: Readable, target: Writable, *, check: Callable[[], None] | None = None) -> int:
    """Copy all of `source` to `target`; returns the bytes copied. `check` runs per chunk (cancellation)."""
    total = 0
    while data := source.read(CHUNK):
        if check is not None:
            check()
        target.write(data)
        total += len(data)
    return total


class HashingReader:
    """Hands a stream on and hashes what passes."""

    def __init__(self, source: Readable, algorithm: str = "sha256") -> None:
        self._source = source
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> Digest:
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")


class HashingWriter:
    """Hands on what is written and hashes it; `target` None only hashes."""

    def __init__(self, target: Writable | None = None, algorithm: str = "sha256") -> None:
        self._target = target
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def write(self, data: bytes, /) -> int:
        self._hash.update(data)
        self.size += len(data)
        if self._target is not None:
            self._target.write(data)
        return len(data)

    @property
    def digest(self) -> Digest:
        return Digest(f"{self._algorithm}:{self._hash.hexdigest()}")


class VerifiedReader:
    """Hands a stream on, and fails rather than end cleanly on wrong bytes.

    Too many bytes fail as soon as they appear; too few or a wrong digest fail at
    the end of the stream. A consumer that reads to the end (an empty read) has
    therefore seen exactly the content named.

    Raises (from `read`):
        SizeMismatch, DigestMismatch
    """

    def __init__(
        self, source: Readable, digest: Digest, size: int | None = None, *, what: str = "", hint: str = ""
    ) -> None:
        """`what` and `hint` are for messages: what is being read, and what to do when it is wrong."""
        self._hashing = HashingReader(source, digest.algorithm)
        self.digest = digest
        self._expected = size
        self._what = what or f"blob {digest}"
        self._hint = hint

    def read(self, size: int = -1, /) -> bytes:
        data = self._hashing.read(size)
        seen, expected = self._hashing.size, self._expected
        if expected is not None and seen > expected:
            raise SizeMismatch(f"{self._what}: expected {expected} bytes, got more", hint=self._hint)
        if (not data and size != 0) or size < 0:
            self._finish()
        return data

    def _finish(self) -> None:
        seen = self._hashing.size
        if self._expected is not None and seen != self._expected:
            raise SizeMismatch(f"{self._what}: expected {self._expected} bytes, got {seen}", hint=self._hint)
        if self._hashing.digest != self.digest:
            raise DigestMismatch(f"{self._what}: got other bytes, of {self._hashing.digest}", hint=self._hint)
