"""Find out how a stream is compressed, and read through it with bounded memory.

The first bytes decide, never a name or a media type: registries and tar files
are wrong about those often enough. Output is made only as it is read, so a
stream that would unpack to terabytes costs its reader a chunk at a time.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol, cast

from knarr.errors import LayerInvalid
from knarr.layer.magic import sniff
from knarr.layer.zstdframe import FrameReader
from knarr.streams import CHUNK, Readable

_ZSTD_MAX_WINDOW = 1 << 27  # bytes; what `zstd -d` takes without being asked for more
_LZMA_MAX_MEMORY = 100 << 20  # bytes; `xz -9` needs 65 MiB
_SNIFF = 10  # bytes: enough for every magic, and for a bzip2 block to show itself


def open_compressed(stream: Readable) -> Readable:
    """The content of `stream`, decompressed if need be. `stream` is read to its end, also past the content.

    Raises (from `read`):
        LayerInvalid: the compressed data is damaged or cut off.
    """
    start = b""
    while len(start) < _SNIFF and (data := stream.read(_SNIFF - len(start))):
        start += data
    kind = sniff(start)
    whole = _Prefixed(start, stream)
    if kind == "uncompressed":
        return whole
    if kind == "zstd":
        return _Zstd(whole)
    return _Inflated(whole, kind)


class _Prefixed:
    """A stream with some bytes put back in front."""

    def __init__(self, start: bytes, stream: Readable) -> None:
        self._start = start
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        start = self._start
        if not start:
            return self._stream.read(size)
        if size < 0:
            self._start = b""
            return start + self._stream.read()
        self._start = start[size:]
        if len(start) >= size:
            return start[:size]
        return start + self._stream.read(size - len(start))


class _Engine(Protocol):
    """What the decompressors of bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Inflated:
    """Decompresses one member after another; zeros after the last are padding, anything else is damage."""

    def __init__(self, source: Readable, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._engine: _Engine | None = _engine(kind)
        self._given = b""  # input for the engine that it has not seen
        self._rest = b""  # output that a short read left over

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if not self._rest and size:
            self._rest = self._more(max(size, 1 << 16))
        if len(self._rest) <= size:
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def _more(self, size: int) -> bytes:
        while self._engine is not None:
            engine = self._engine
            if engine.eof:
                self._engine = self._next_member(engine.unused_data)
                continue
            if engine.needs_input and not self._given:
                self._given = self._source.read(CHUNK)
                if not self._given:
                    raise LayerInvalid(f"the {self._kind} stream is cut off")
            given, self._given = self._given, b""
            if data := self._decompress(engine, given, size):
                return data
        return b""

    def _decompress(self, engine: _Engine, given: bytes, size: int) -> bytes:
        try:
            return engine.decompress(given, size)
        except MemoryError as error:
            raise LayerInvalid(f"the {self._kind} stream needs too much memory to decompress") from error
        except _errors() as error:
            raise LayerInvalid(f"the {self._kind} stream is damaged: {error}") from error

    def _next_member(self, unused: bytes) -> _Engine | None:
        left = unused.lstrip(b"\0")
        while not left:
            data = self._source.read(CHUNK)
            if not data:
                return None
            left = data.lstrip(b"\0")
        while len(left) < _SNIFF and (data := self._source.read(_SNIFF)):
            left += data
        if sniff(left[:_SNIFF].ljust(_SNIFF, b"\0")) != self._kind:
            raise LayerInvalid(f"the {self._kind} stream has other data behind its end")
        self._given = left
        return _engine(self._kind)


def _engine(kind: str) -> _Engine:
    if kind == "gzip":
        from isal import igzip_lib

        gzip: _Engine = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return gzip
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MAX_MEMORY)


def _errors() -> tuple[type[Exception], ...]:
    """What engines raise for bad data; looked up late, so that only the one in use is loaded."""
    import sys

    found: list[type[Exception]] = [zlib.error, OSError, EOFError, ValueError]
    for module, name in (("isal.igzip_lib", "IsalError"), ("lzma", "LZMAError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


class _Zstd:
    """libzstd reads across frames; it takes a cut-off stream for a finished one, so the frames are followed here."""

    def __init__(self, source: Readable) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        engine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
        self._reader = engine.stream_reader(
            cast("BinaryIO", FrameReader(source)), read_size=CHUNK, read_across_frames=True
        )

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        try:
            return self._reader.read(size)
        except self._error as error:
            raise LayerInvalid(f"the zstd stream is damaged: {error}") from error
