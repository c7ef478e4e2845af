from __future__ import annotations

import gzip
import io
import os
import random
import subprocess

import pytest
import zstandard

from knarr.errors import UsageError
from knarr.layer.compress import Compression, compressor
from knarr.layer.relay import WriteBehind
from knarr.streams import CHUNK

NOISE = random.Random(1).randbytes(700_000)
TEXT = b"".join(b"line %d of a text that repeats itself\n" % n for n in range(60_000))
MIX = TEXT + NOISE + TEXT + NOISE[::-1] + TEXT[:12345]  # 6 MiB


def compressed(data: bytes, compression: Compression, *, jobs: int = 2, step: int = CHUNK) -> bytes:
    out = io.BytesIO()
    with compressor(compression, out, jobs=jobs) as writer:
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
    return out.getvalue()


def unzstd(data: bytes) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
    return reader.read()


@pytest.mark.parametrize("data", [b"", b"x", TEXT[:1000], TEXT[:CHUNK], MIX], ids=len)
@pytest.mark.parametrize("level", [None, -1, 0, 1, 3, 4, 9])
def test_gzip_is_gzip(data: bytes, level: int | None) -> None:
    assert gzip.decompress(compressed(data, Compression("gzip", level))) == data


@pytest.mark.parametrize("data", [b"", b"x", TEXT[:1000], MIX], ids=len)
@pytest.mark.parametrize("level", [None, -3, 1, 9])
def test_zstd_is_zstd(data: bytes, level: int | None) -> None:
    assert unzstd(compressed(data, Compression("zstd", level))) == data


def test_uncompressed_is_untouched() -> None:
    assert compressed(MIX, Compression("uncompressed")) == MIX


@pytest.mark.parametrize("compression", [Compression("gzip"), Compression("gzip", 6), Compression("zstd")], ids=str)
@pytest.mark.parametrize("data", [TEXT[:5000], MIX], ids=len)
def test_bytes_depend_on_neither_cores_nor_writes(compression: Compression, data: bytes) -> None:
    made = {compressed(data, compression, jobs=jobs, step=step) for jobs in (1, 2, 5) for step in (CHUNK, 77_777)}
    assert len(made) == 1


def test_the_header_names_no_time_and_no_system() -> None:
    assert compressed(TEXT, Compression("gzip"))[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def test_size_is_near_that_of_zlib() -> None:
    assert len(compressed(MIX, Compression("gzip"))) < 1.12 * len(gzip.compress(MIX, 6))
    assert len(compressed(TEXT, Compression("gzip", 9))) < len(compressed(TEXT, Compression("gzip", 1)))


@pytest.mark.parametrize(("kind", "level"), [("gzip", 10), ("gzip", -2), ("zstd", 23), ("uncompressed", 1)])
def test_levels_that_do_not_exist(kind: str, level: int) -> None:
    with pytest.raises(UsageError, match=f"{kind} has no compression level {level}"):
        Compression(kind, level)


def test_kinds_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="'lzo' is not known"):
        Compression("lzo")


class Full:
    """A target that fails after some writes."""

    def __init__(self, writes: int) -> None:
        self._left = writes

    def write(self, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError("full")


@pytest.mark.parametrize("kind", ["gzip", "zstd", "uncompressed"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_failing_target_ends_it(kind: str, behind: bool) -> None:
    def run() -> None:
        with WriteBehind(Full(1)) as slow, compressor(Compression(kind), slow if behind else Full(1)) as writer:
            for _ in range(100):
                writer.write(NOISE)

    with pytest.raises(OSError, match="full"):
        run()


def test_a_failing_source_writes_no_end() -> None:
    out = io.BytesIO()

    def run() -> None:
        with compressor(Compression("gzip"), out, jobs=3) as writer:
            writer.write(MIX)
            raise KeyError

    with pytest.raises(KeyError):
        run()
    with pytest.raises(EOFError):
        gzip.decompress(out.getvalue())


@pytest.mark.system
@pytest.mark.parametrize(("kind", "program"), [("gzip", "gzip"), ("zstd", "zstd")])
def test_other_programs_agree(kind: str, program: str) -> None:
    data = compressed(MIX, Compression(kind), jobs=os.cpu_count() or 1)
    assert subprocess.run([program, "-dc"], input=data, capture_output=True, check=True).stdout == MIX
