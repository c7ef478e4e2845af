"""eStargz layers. `estargz.json`: the table by stargz-snapshotter's own writer of the same tar, offsets aside."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.content.memory import MemoryStore
from knarr.content.store import Store
from knarr.errors import LayerInvalid
from knarr.layer.compress import Compression
from knarr.layer.estargz import FOOTER_SIZE, TOC_NAME, toc_offset, without_table
from knarr.layer.pack import Packed, pack
from knarr.spec.digest import Digest
from knarr.spec.mediatype import OCI_LAYER_GZIP, TOC_DIGEST, UNCOMPRESSED_SIZE
from knarr.streams import Writable

CHUNK = 4 << 20
XATTRS = {"SCHILY.xattr.security.capability": "\x01\x00\x02", "SCHILY.xattr.user.a": "b"}


def archive() -> bytes:
    """A tar with an entry of every kind, files around the size of a chunk, and owners, times and names that are odd."""
    noise = random.Random(5)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, data: bytes = b"", **values: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            for key, value in values.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(data))

        add("d/", type=tarfile.DIRTYPE, mode=0o755, mtime=1700000000)
        add("d/empty", mtime=1700000000.6)
        add("d/x<&>é", b"hi", uid=5, gid=6, uname="u", gname="g", mtime=-5)
        add("d/y", b"hi2", uid=5, gid=6, uname="u", gname="g")
        add("d/" + "l" * 180 + "/" + "m" * 150, b"q" * 1000)
        add("whole", noise.randbytes(CHUNK))
        add("more", noise.randbytes(CHUNK + 1))
        add("several", noise.randbytes(2 * CHUNK + 100))
        add("small", b"x" * 511)
        add("lnk", type=tarfile.SYMTYPE, linkname="../whole")
        add("hard", type=tarfile.LNKTYPE, linkname="whole")
        add(".wh.gone")
        add("c", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("b", type=tarfile.BLKTYPE, devmajor=8)
        add("f", type=tarfile.FIFOTYPE)
        add(
            "able", b"abc", pax_headers={"SCHILY.xattr.security.capability": "\x01\x00\x02", "SCHILY.xattr.user.a": "b"}
        )
        add("setuid", b"z", mode=0o4755)
    return out.getvalue()


ARCHIVE = archive()


def packed(
    data: bytes, store: MemoryStore | Store, *, jobs: int = 0, level: int | None = None, step: int = 0
) -> Packed:
    def write(out: Writable) -> None:
        for at in range(0, len(data), step or 1 << 20):
            out.write(data[at : at + (step or 1 << 20)])

    return pack(write, store, compression=Compression("estargz", level), jobs=jobs)


def table_of(raw: bytes) -> tuple[int, bytes]:
    """Where the table is, and its JSON, by Python's own tar and gzip."""
    offset = toc_offset(raw[-FOOTER_SIZE:])
    assert offset is not None
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(raw[offset:]))) as tar:
        (entry,) = tar
        return offset, tar.extractfile(entry).read()  # type: ignore[union-attr]


def member(raw: bytes, offset: int, size: int) -> bytes:
    """The first `size` bytes of the gzip member that begins at `offset`."""
    return zlib.decompressobj(wbits=31).decompress(raw[offset:], size)


def test_the_table_is_that_of_the_format_s_own_writer() -> None:
    store = MemoryStore()
    _, table = table_of(store.read(packed(ARCHIVE, store).descriptor))
    expected = (Path(__file__).parent / "estargz.json").read_bytes().removesuffix(b"\n")
    assert re.sub(rb'"offset": \d+', b'"offset": 0', table) == expected


def test_every_chunk_begins_where_the_table_says() -> None:
    store = MemoryStore()
    raw = store.read(packed(ARCHIVE, store).descriptor)
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isreg()}  # type: ignore[union-attr]

    found: dict[str, bytes] = {}
    sizes: dict[str, int] = {}
    for entry in json.loads(table_of(raw)[1])["entries"]:
        if entry["type"] == "reg":
            sizes[entry["name"]] = entry.get("size", 0)
            assert entry["digest"] == str(Digest.of(files[entry["name"]]))
        if "chunkDigest" in entry:
            size = entry.get("chunkSize") or sizes[entry["name"]] - entry.get("chunkOffset", 0)
            chunk = member(raw, entry.get("offset", 0), size)
            assert entry["chunkDigest"] == str(Digest.of(chunk))
            found[entry["name"]] = found.get(entry["name"], b"") + chunk
    assert found == {name: data for name, data in files.items() if data}


def test_the_layer_is_a_gzip_layer_and_its_diff_id_counts_the_table() -> None:
    store = MemoryStore()
    made = packed(ARCHIVE, store)
    raw = store.read(made.descriptor)
    whole = gzip.decompress(raw)
    table = table_of(raw)[1]
    assert made.descriptor.media_type == OCI_LAYER_GZIP
    assert whole.startswith(ARCHIVE)
    assert (made.diff_id, made.uncompressed_size) == (Digest.of(whole), len(whole))
    assert made.descriptor.annotations == {TOC_DIGEST: str(Digest.of(table)), UNCOMPRESSED_SIZE: str(len(whole))}


def test_threads_and_the_sizes_of_writes_make_no_difference() -> None:
    made = {
        packed(ARCHIVE, MemoryStore(), jobs=jobs, step=step).descriptor.digest
        for jobs, step in ((1, 0), (2, 511), (7, 10_007))
    }
    assert len(made) == 1


@given(st.lists(st.integers(0, 3000), max_size=12), st.sampled_from([None, 0, 1, 9]), st.integers(1, 2000))
def test_any_tar_comes_back(sizes: list[int], level: int | None, step: int) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number, size in enumerate(sizes):
            entry = tarfile.TarInfo(f"f{number}")
            entry.size = size
            tar.addfile(entry, io.BytesIO(bytes(size)))
    store = MemoryStore()
    raw = store.read(packed(out.getvalue(), store, level=level, step=step).descriptor)
    offset, table = table_of(raw)
    assert gzip.decompress(raw[:offset]) == out.getvalue()
    assert len(json.loads(table)["entries"] or ()) == len(sizes)


def test_many_entries_without_content_do_not_make_one_endless_member() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(20_000):
            tar.addfile(tarfile.TarInfo(f"f{number}"))
    store = MemoryStore()
    raw = store.read(packed(out.getvalue(), store).descriptor)
    assert len(member(raw, 0, 1 << 30)) == CHUNK
    assert gzip.decompress(raw).startswith(out.getvalue())


@pytest.mark.parametrize("cut", [10, 515, 6 * 512 + 100])
def test_a_tar_that_is_cut_off_is_refused_and_leaves_nothing(tmp_path: Path, cut: int) -> None:
    with pytest.raises(LayerInvalid, match="cut off"):
        packed(ARCHIVE[:cut], Store(tmp_path))
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", [TOC_NAME, f"./{TOC_NAME}", f"/a/../{TOC_NAME}"])
def test_a_file_of_the_table_s_name_is_refused(name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(LayerInvalid, match=TOC_NAME):
        packed(out.getvalue(), MemoryStore())


@pytest.mark.parametrize("size", [b"x", b"-1", b"77777777777"])
def test_an_extension_header_of_impossible_size_is_refused(size: bytes) -> None:
    block = bytearray(512)
    block[124 : 124 + len(size)] = size
    block[156:157] = b"x"
    with pytest.raises(LayerInvalid, match="extension header"):
        packed(bytes(block), MemoryStore())


def test_the_tar_alone_can_be_had_back_from_a_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    descriptor = packed(ARCHIVE, store).descriptor
    with store.open(descriptor) as blob:
        stream = without_table(blob)
        assert gzip.decompress(b"".join(iter(lambda: stream.read(1 << 16), b""))) == ARCHIVE


@pytest.mark.parametrize("end", [b"", bytes(51), b"x" * 60, bytes(16) + b"g" * 16 + b"STARGZ" + bytes(13)])
def test_other_files_have_no_table(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "blob"
    path.write_bytes(gzip.compress(b"a tar") + end)
    with open(path, "rb", buffering=0) as blob:
        assert without_table(blob) is blob
        assert blob.read() == path.read_bytes()
