from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import LayerInvalid
from knarr.layer.decompress import open_compressed
from knarr.layer.magic import sniff
from knarr.streams import CHUNK, Readable

DATA = b"".join(b"%d bottles\n" % n for n in range(60_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "uncompressed": bytes,
}
kinds = pytest.mark.parametrize("kind", COMPRESS)
packed_kinds = pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "uncompressed"])


class Trickle:
    """Gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._source = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._source.read(self._step if size < 0 else min(self._step, size))


def everything(stream: Readable, size: int = CHUNK) -> bytes:
    return b"".join(iter(lambda: stream.read(size), b""))


@kinds
@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=len)
def test_reads_through(kind: str, data: bytes) -> None:
    packed = COMPRESS[kind](data)
    assert sniff(packed[:10]) == kind
    assert everything(open_compressed(io.BytesIO(packed))) == data
    assert open_compressed(io.BytesIO(packed)).read() == data


@kinds
def test_sizes_of_reads_make_no_difference(kind: str) -> None:
    data = DATA[:50_000]
    packed = COMPRESS[kind](data)
    assert everything(open_compressed(Trickle(packed, 3)), 7) == data
    assert everything(open_compressed(io.BytesIO(packed)), 1 << 22) == data


@packed_kinds
def test_members_follow_each_other(kind: str) -> None:
    packed = COMPRESS[kind](b"one ") + COMPRESS[kind](b"two ") + COMPRESS[kind](DATA)
    assert everything(open_compressed(io.BytesIO(packed))) == b"one two " + DATA
    assert everything(open_compressed(Trickle(packed, 1)), 1000) == b"one two " + DATA


@packed_kinds
def test_every_cut_is_found(kind: str) -> None:
    packed = COMPRESS[kind](DATA[:3000])
    for length in range(10, len(packed), 97):
        with pytest.raises(LayerInvalid, match=f"the {kind} stream is cut off"):
            everything(open_compressed(io.BytesIO(packed[:length])))


@packed_kinds
def test_what_follows_the_end_is_damage(kind: str) -> None:
    with pytest.raises(LayerInvalid, match=f"the {kind} stream has other data behind"):
        everything(open_compressed(io.BytesIO(COMPRESS[kind](DATA) + b"and more")))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_zeros_after_the_end_are_padding(kind: str) -> None:
    assert everything(open_compressed(io.BytesIO(COMPRESS[kind](DATA) + bytes(5000)))) == DATA


@packed_kinds
def test_damage_is_found(kind: str) -> None:
    packed = bytearray(COMPRESS[kind](DATA))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(LayerInvalid, match=f"the {kind} stream"):
        everything(open_compressed(io.BytesIO(packed)))


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(COMPRESS)), st.integers(0, 400), st.integers(0, 255), st.binary(max_size=50))
def test_hostile_bytes_never_escape(kind: str, place: int, value: int, tail: bytes) -> None:
    packed = bytearray(COMPRESS[kind](DATA[:2000]))
    packed[place % len(packed)] = value
    try:
        everything(open_compressed(io.BytesIO(bytes(packed) + tail)))
    except LayerInvalid:
        return


@packed_kinds
def test_a_bomb_costs_a_chunk_at_a_time(kind: str) -> None:
    packed = COMPRESS[kind](bytes(40 << 20))
    tracemalloc.start()
    stream = open_compressed(io.BytesIO(packed))
    for _ in range(5):
        assert len(stream.read(CHUNK)) > 0
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()


def test_a_zstd_window_has_a_limit() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    engine = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = engine.compress(DATA) + engine.flush()
    with pytest.raises(LayerInvalid, match="zstd stream is damaged"):
        everything(open_compressed(io.BytesIO(packed)))


def test_a_skippable_frame_may_come_first() -> None:
    packed = b"\x50\x2a\x4d\x18\x03\0\0\0abc" + COMPRESS["zstd"](DATA)
    assert everything(open_compressed(io.BytesIO(packed))) == DATA


def test_text_that_begins_like_bzip2_is_text() -> None:
    assert sniff(b"BZhello wor") == "uncompressed"
