"""Compress layers: the same bytes for the same content, on however many cores.

gzip: the stream is cut into blocks of one chunk, each deflated on its own by any
thread (isal's igzip, which is C and lets go of the interpreter), ended with a
sync flush and joined in order into one member with an empty name, no time and
an unknown system in its header. zstd at our own level: the same with frames, each
made by the faster of libzstd's two quick matchers unless a sample says that the
other makes it smaller. At a level that was asked for: libzstd's own workers with
fixed job and window sizes; it promises the same output for any number of them,
but not for none, so there is always at least one.

Measured on a Debian base image, source text and a mix with random data, two
cores, against Go's gzip and klauspost's zstd as BuildKit calls them: gzip 14 to
17 times as fast at 5 to 7 % more bytes (13 % on pure source text); zstd in 0.4
(mix) to 0.6 of the time at 0.2 (pure text) to 5.5 % fewer. One frame with
libzstd's own workers took half as long again on the mix and was 2 % larger.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Protocol

from knarr.errors import UsageError
from knarr.layer.relay import Pipe
from knarr.record import record
from knarr.scope import Scope
from knarr.streams import CHUNK, Writable

KINDS = ("gzip", "zstd", "estargz", "uncompressed")
_GZIP_HEADER = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"  # no flags, no time, system 255: unknown
_LAST_BLOCK = b"\x03\x00"  # an empty deflate block that says it is the last
_GZIP_WORKERS = 12  # 5 MiB each; more would not fit in 150 MiB together with the rest
_ISAL_LEVELS = 3  # igzip has 1 to 3; above, zlib is asked
_ZSTD_WINDOW_LOG = 23  # 8 MiB: the most that every decoder must take (RFC 8878), and what klauspost uses
# Tables that stay in the processor's cache, and shorter matches than a level has, which make up for it.
_ZSTD_OWN = {"window_log": 22, "hash_log": 16, "chain_log": 15, "min_match": 4, "search_log": 1}
_ZSTD_FRAME = 4 << 20  # bytes; 8 MiB gain 0.3 % and cost 20 MiB of memory per worker
_ZSTD_SAMPLE = 256 << 10  # bytes at the start of a frame with which the two matchers are compared
_ZSTD_JOB = 4 << 20  # bytes per job; smaller ones cost ratio, larger ones memory (12 MiB per worker as it is)
_ZSTD_OVERLAP_LOG = 7  # each job sees a quarter of a window of the one before
_ZSTD_WORKERS = 4  # more would not fit in 150 MiB
_NO_ANNOTATIONS: Mapping[str, str] = MappingProxyType({})


@record
class Compression:
    """How layers are compressed. `level` None is ours; `force` recompresses layers that have another form."""

    kind: str = "gzip"
    level: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"compression {self.kind!r} is not known", hint="use " + ", ".join(KINDS))
        low, high = {"gzip": (-1, 9), "estargz": (-1, 9), "zstd": (-7, 22)}.get(self.kind, (0, 0))
        if self.level is not None and not low <= self.level <= high:
            raise UsageError(f"{self.kind} has no compression level {self.level}", hint=f"use {low} to {high}")


class Compressor(Protocol):
    """A writer whose `with` block, left without an error, ends the compressed stream. The target stays open."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """What a descriptor of the blob has to say; known once the block is left."""
        ...

    def __enter__(self) -> Compressor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

    def write(self, data: bytes, /) -> int: ...


def compressor(
    compression: Compression, out: Writable, *, jobs: int = 0, tail: Callable[[bytes], object] = lambda data: None
) -> Compressor:
    """A writer that compresses into `out` on up to `jobs` threads (0: as many as there are cores).

    `tail` is given what the stream decompresses to beyond what was written: the table of an eStargz layer.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    if compression.kind == "estargz":
        from knarr.layer import estargz

        return estargz.Writer(out, level=compression.level, jobs=jobs, tail=tail)
    if compression.kind == "gzip":
        return _Gzip(out, compression.level, jobs)
    if compression.kind == "zstd":
        if compression.level is None:
            return _ZstdFrames(out, jobs)
        return _ZstdLevel(out, compression.level, jobs)
    return _Plain(out)


class _Plain:
    annotations = _NO_ANNOTATIONS

    def __init__(self, out: Writable) -> None:
        self._out = out

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        return None

    def write(self, data: bytes, /) -> int:
        self._out.write(data)
        return len(data)


class _Chunked:
    """Cuts what is written into pieces of exactly `size` bytes, so that output never depends on how it came in."""

    def __init__(self, size: int, take: Callable[[bytes], None]) -> None:
        self._size = size
        self._take = take
        self._rest = bytearray()

    def write(self, data: bytes) -> None:
        if not self._rest and len(data) == self._size:
            self._take(data)
            return
        self._rest += data
        while len(self._rest) >= self._size:
            self._take(bytes(self._rest[: self._size]))
            del self._rest[: self._size]

    def finish(self) -> None:
        if self._rest:
            self._take(bytes(self._rest))
            self._rest.clear()


class Block:
    """One piece on its way through a worker. `output` and `crc` may be read once `done` is set."""

    __slots__ = ("crc", "done", "error", "output", "source")

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.output = b""
        self.crc = 0
        self.error: BaseException | None = None
        self.done = threading.Event()


class Blocks:
    """Pieces that are compressed each on its own, by `jobs` workers. The writing thread also writes them, in order.

    In flight are at most two blocks per worker, so memory is bounded and a slow
    `out` slows the writer down. The first block is done by the writing thread
    itself if no second comes.
    """

    annotations = _NO_ANNOTATIONS

    def __init__(self, out: Writable, squeeze: Callable[[Block], None], jobs: int, size: int) -> None:
        self._out = out
        self._squeeze = squeeze
        self._jobs = jobs
        self._window = 2 * jobs + 1
        self._chunked = _Chunked(size, self.take)
        self._pipe: Pipe[Block] = Pipe(self._window)
        self._flying: deque[Block] = deque()
        self._scope = Scope()
        self._workers = 0

    def __enter__(self) -> Blocks:
        return self

    def write(self, data: bytes, /) -> int:
        self._chunked.write(data)
        return len(data)

    def take(self, data: bytes) -> None:
        """One piece, of whatever size, after those before it."""
        block = Block(data)
        self._flying.append(block)
        if len(self._flying) > 1 and self._workers < self._jobs:
            if self._workers == 0:
                self._pipe.put(self._flying[0])
            self._workers += 1
            self._scope.attempt(self._work)
        if self._workers:
            self._pipe.put(block)
        while len(self._flying) >= self._window or (self._flying and self._flying[0].done.is_set()):
            self._give(self._flying.popleft())

    def _work(self) -> None:
        while (block := self._pipe.take()) is not None:
            self._run(block)

    def _run(self, block: Block) -> None:
        try:
            self._squeeze(block)
        except BaseException as error:
            block.error = error
        block.done.set()

    def _give(self, block: Block) -> None:
        if not self._workers:
            self._run(block)
        block.done.wait()
        if block.error is not None:
            raise block.error
        self._out.write(block.output)
        self.gave(block)

    def gave(self, block: Block) -> None:
        """`block` was written."""

    def _end(self) -> None:
        """All blocks were written."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is None:
                self._chunked.finish()
                while self._flying:
                    self._give(self._flying.popleft())
                self._end()
        finally:
            # Nobody waits for a block any more: the workers finish what they have and find the end.
            self._pipe.end()
            self._scope.__exit__(None, None, None)


class _Gzip(Blocks):
    def __init__(self, out: Writable, level: int | None, jobs: int) -> None:
        super().__init__(out, _deflater(level), min(jobs, _GZIP_WORKERS), CHUNK)
        self._size = 0
        self._crc = 0
        out.write(_GZIP_HEADER)

    def gave(self, block: Block) -> None:
        from isal.isal_zlib import crc32_combine

        self._crc = crc32_combine(self._crc, block.crc, len(block.source))
        self._size += len(block.source)

    def _end(self) -> None:
        self._out.write(_LAST_BLOCK + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))


def gzip_member(data: bytes, level: int | None) -> bytes:
    """`data` as a gzip member of its own."""
    from isal import isal_zlib

    engine = _engine(level)
    body: bytes = engine.compress(data) + engine.flush()
    return _GZIP_HEADER + body + struct.pack("<II", isal_zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _engine(level: int | None) -> Any:  # isal's or zlib's compressobj, which share no type
    from isal import isal_zlib

    if level is None or level < 0:
        level = _ISAL_LEVELS
    module = isal_zlib if 1 <= level <= _ISAL_LEVELS else zlib
    return module.compressobj(level, zlib.DEFLATED, -15)


def _deflater(level: int | None) -> Callable[[Block], None]:
    """What one worker does to one block: deflate it, up to a byte boundary, and take its CRC."""
    from isal import isal_zlib

    def deflate(block: Block) -> None:
        engine = _engine(level)
        block.output = engine.compress(block.source) + engine.flush(zlib.Z_SYNC_FLUSH)
        block.crc = isal_zlib.crc32(block.source)

    return deflate


class _ZstdFrames(Blocks):
    """Our own level: every piece is a frame, made by the quick matcher where that is as good as the thorough one."""

    def __init__(self, out: Writable, jobs: int) -> None:
        super().__init__(out, self._frame, min(jobs, _ZSTD_WORKERS), _ZSTD_FRAME)
        self._engines = threading.local()  # an engine serves one thread at a time
        self._is_empty = True

    def _frame(self, block: Block) -> None:
        quick, thorough = self._mine()
        sample = block.source[:_ZSTD_SAMPLE]
        is_quick = len(quick(sample)) <= len(thorough(sample))
        block.output = (quick if is_quick else thorough)(block.source)

    def _mine(self) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
        if not hasattr(self._engines, "pair"):
            import zstandard

            made = (
                zstandard.ZstdCompressor(
                    compression_params=zstandard.ZstdCompressionParameters(strategy=strategy, **_ZSTD_OWN)
                )
                for strategy in (zstandard.STRATEGY_FAST, zstandard.STRATEGY_DFAST)
            )
            quick, thorough = made
            self._engines.pair = (quick.compress, thorough.compress)
        pair: tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]] = self._engines.pair
        return pair

    def gave(self, block: Block) -> None:
        self._is_empty = False

    def _end(self) -> None:
        if self._is_empty:
            self._out.write(self._mine()[0](b""))


class _ZstdLevel:
    """A level that was asked for: one frame, by libzstd's own workers."""

    annotations = _NO_ANNOTATIONS

    def __init__(self, out: Writable, level: int, jobs: int) -> None:
        import zstandard

        own = {"job_size": _ZSTD_JOB, "overlap_log": _ZSTD_OVERLAP_LOG}
        if level < 20:
            own["window_log"] = _ZSTD_WINDOW_LOG  # the highest levels have larger ones
        parameters = zstandard.ZstdCompressionParameters.from_level(level, threads=min(jobs, _ZSTD_WORKERS), **own)
        self._out = out
        self._engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._chunked = _Chunked(CHUNK, self._take)

    def __enter__(self) -> _ZstdLevel:
        return self

    def write(self, data: bytes, /) -> int:
        self._chunked.write(data)
        return len(data)

    def _take(self, data: bytes) -> None:
        if output := self._engine.compress(data):
            self._out.write(output)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            self._chunked.finish()
            self._out.write(self._engine.flush())
