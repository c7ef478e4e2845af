from __future__ import annotations

import io

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import LayerInvalid
from knarr.layer.zstdframe import FrameReader


def passed(data: bytes, step: int = 1 << 20) -> bytes:
    reader = FrameReader(io.BytesIO(data))
    return b"".join(iter(lambda: reader.read(step), b""))


def frame(data: bytes, *, checksum: bool, size: bool, level: int = 3) -> bytes:
    return zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=size).compress(data)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 30_000), st.booleans(), st.booleans()), max_size=3),
    st.integers(1, 5000),
)
def test_frames_end_where_zstd_ends_them(parts: list[tuple[bytes, int, bool, bool]], step: int) -> None:
    frames = [frame(seed * times, checksum=checksum, size=size) for seed, times, checksum, size in parts]
    data = b"".join(frames)
    assert passed(data, step) == data
    if data:
        with pytest.raises(LayerInvalid, match="cut off"):
            passed(data[:-1], step)


def test_skippable_frames() -> None:
    data = b"\x5f\x2a\x4d\x18\x02\0\0\0ab" + frame(b"x", checksum=True, size=True)
    assert passed(data, 1) == data
    with pytest.raises(LayerInvalid, match="cut off"):
        passed(data[:9])


def test_other_data_behind_a_frame() -> None:
    with pytest.raises(LayerInvalid, match="other data"):
        passed(frame(b"x", checksum=False, size=True) + b"tail")
