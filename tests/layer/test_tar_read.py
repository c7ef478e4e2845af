from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knarr.errors import LayerInvalid
from knarr.layer import tar
from knarr.layer.tar import Entry
from knarr.layer.tar_read import Reader
from knarr.layer.tar_write import Writer, encode


def checksummed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def raw(name: bytes = b"f", flag: bytes = b"0", **fields: bytes) -> bytes:
    """A header block with the fields given replaced."""
    block = bytearray(encode(Entry("f")))
    block[:100] = name.ljust(100, b"\0")
    block[156:157] = flag
    places = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "magic": 257}
    for field, value in fields.items():
        block[places[field] : places[field] + len(value)] = value
    return checksummed(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: bytes, name: bytes = b"f") -> bytes:
    body = b"".join(b"%d %b\n" % (len(r) + 2 + len(str(len(r) + 4)), r) for r in records)
    return raw(flag=b"x", size=b"%011o\0" % len(body)) + padded(body) + raw(name)


def first(data: bytes) -> Entry:
    entry = Reader(io.BytesIO(data + bytes(1024))).next()
    assert entry is not None
    return entry


def everything(data: bytes) -> list[Entry]:
    return list(Reader(io.BytesIO(data)))


def python_tar(format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, size in (("a", 3), ("d/" * 70 + "long" * 10, 700), ("x" * 200, 0)):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = size, 17, 1000
            archive.addfile(info, io.BytesIO(b"c" * size))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "t" * 150
        archive.addfile(link)
        far = tarfile.TarInfo("far")
        far.uid, far.mtime = 5_000_000, -5
        if format != tarfile.USTAR_FORMAT:
            archive.addfile(far)
    return out.getvalue()


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_reads_what_python_writes(format: int) -> None:
    reader = Reader(io.BytesIO(python_tar(format)))
    read = [(entry, b"".join(reader.content())) for entry in reader]
    assert [entry.name for entry, _ in read] == ["a", "d/" * 70 + "long" * 10, "x" * 200, "link", "far"]
    assert [len(content) for _, content in read] == [3, 700, 0, 0, 0]
    assert read[3][0].linkname == "t" * 150
    assert (read[4][0].uid, read[4][0].mtime_ns) == (5_000_000, -5 * 10**9)


def test_v7_directories_are_told_by_their_slash() -> None:
    assert first(raw(b"old/", b"\0", magic=bytes(8))).type == tar.DIRECTORY
    assert first(raw(b"old", b"\0", magic=bytes(8))).type == tar.REGULAR


def test_pax_records_win_over_the_header() -> None:
    entry = first(pax(b"path=p\xc3\xa4th", b"uid=7", b"mtime=1.000000002999", b"SCHILY.xattr.user.a=\0b"))
    assert entry.name == "päth"
    assert (entry.uid, entry.mtime_ns) == (7, 1_000_000_002)
    assert entry.xattrs == {"user.a": b"\0b"}


def test_names_that_are_not_utf8_survive() -> None:
    entry = first(raw(b"\xff\xfe"))
    assert encode(entry).find(b"path=\xff\xfe\n") > 0


def test_base_256_numbers() -> None:
    assert first(raw(uid=b"\x80\0\0\0\0\x4c\x4b\x40")).uid == 5_000_000
    assert first(raw(mtime=b"\xff" * 12)).mtime_ns == -(10**9)


def test_numbers_may_be_padded_with_spaces() -> None:
    assert first(raw(mode=b"   644 \0")).mode == 0o644
    assert first(raw(mode=b"\0" * 8)).mode == 0


def test_global_headers_are_passed_over() -> None:
    body = b"30 comment=0123456789abcdef01\n"
    stream = raw(b"pax_global_header", b"g", size=b"%011o\0" % len(body)) + padded(body) + raw(b"f") + bytes(1024)
    assert [entry.name for entry in everything(stream)] == ["f"]


def test_content_not_asked_for_is_skipped() -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.add_stream(Entry("large", size=3_000_001), io.BytesIO(bytes(3_000_001)))
    writer.add(Entry("next", size=1), b"x")
    writer.close()
    reader = Reader(io.BytesIO(stream.getvalue()))
    assert [entry.name for entry in reader] == ["large", "next"]


def test_a_hard_link_with_a_size_has_no_content() -> None:
    link = bytearray(raw(b"link", b"1", size=b"00000001000\0"))
    link[157:158] = b"f"
    assert [entry.name for entry in everything(checksummed(link) + raw(b"after") + bytes(1024))] == ["link", "after"]


def test_the_end_may_be_missing_but_not_half() -> None:
    assert len(everything(raw())) == 1
    assert everything(b"") == []
    with pytest.raises(LayerInvalid, match="inside a header"):
        everything(raw() + bytes(100))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 512, "not a number"),
        (raw()[:148] + b"000001\0 " + raw()[156:], "checksum .*is wrong"),
        (raw(size=b"\xff" * 12), "negative size"),
        (raw(size=b"\x80" + b"\xff" * 11), "more than 63 bits"),
        (raw(size=b"0_000000010\0"), "not a number"),
        (raw(size=b"00000000009\0"), "not a number"),
        (raw(size=b"-0000000001\0"), "not a number"),
        (raw(uid=b"\xff" * 8), "negative owner"),
        (raw(size=b"00000001000\0") + b"short", "cut off inside f"),
        (raw(flag=b"x", size=b"00010000000\0"), "pax header of 2097152 bytes"),
        (raw(flag=b"L", size=b"00010000000\0"), "long name of 2097152 bytes"),
        (raw(flag=b"S"), "sparse files are not supported"),
        (pax(b"GNU.sparse.major=1"), "sparse files are not supported"),
        (raw(flag=b"M"), "type b'M' are not supported"),
        (pax(b"path=a\0b"), "NUL byte"),
        (pax(b"size=-1"), "gives size as b'-1'"),
        (pax(b"size=99999999999999999999"), "gives size"),
        (pax(b"mtime=soon"), "gives a time as b'soon'"),
        (raw(flag=b"x", size=b"00000000005\0") + padded(b"9 a=b") + raw(), "impossible length"),
        (raw(flag=b"x", size=b"00000000005\0") + padded(b"5 ab\n") + raw(), "without a name"),
        (raw(flag=b"x", size=b"00000000000\0"), "before its entry"),
        (raw() + bytes(512) + raw(b"more"), "empty block after f"),
    ],
)
def test_malformed_streams_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(LayerInvalid, match=message.replace("(", r"\(")):
        for _ in Reader(io.BytesIO(data)):
            pass


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_damage_is_found_or_harmless(data: st.DataObject) -> None:
    whole = bytearray(python_tar(tarfile.PAX_FORMAT))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        everything(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    except LayerInvalid:
        return


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)
numbers = st.integers(0, 2**40)
entries = st.builds(
    Entry,
    name=names,
    type=st.sampled_from([tar.REGULAR, tar.DIRECTORY, tar.FIFO]),
    mode=st.integers(0, 0o7777),
    uid=numbers,
    gid=numbers,
    mtime_ns=st.integers(-(2**60), 2**62),
    xattrs=st.dictionaries(st.sampled_from(["user.a", "user.ä", "security.capability"]), st.binary(max_size=600)),
    uname=st.sampled_from(["", "root", "ü", "n" * 33]),
    gname=st.sampled_from(["", "root", "ü", "n" * 33]),
    size=st.just(0),
    linkname=st.sampled_from(["", "t", "t" * 101, "ü"]),
    devmajor=st.just(0),
    devminor=st.just(0),
)


@settings(deadline=None, max_examples=200)
@given(entries, st.binary(max_size=2000))
@example(Entry("x/" * 60, tar.DIRECTORY), b"")
def test_read_undoes_write(entry: Entry, content: bytes) -> None:
    entry = entry._replace(size=len(content) if entry.type == tar.REGULAR else 0)
    out = io.BytesIO()
    writer = Writer(out, subsecond=True)
    writer.add(entry, content if entry.type == tar.REGULAR else b"")
    writer.close()
    reader = Reader(io.BytesIO(out.getvalue()))
    read = reader.next()
    assert read is not None
    assert read._replace(xattrs=dict(read.xattrs)) == entry
    assert b"".join(reader.content()) == content[: entry.size]
    assert reader.next() is None


class Trickle:
    """Gives a few bytes at a time, as sockets do."""

    def __init__(self, data: bytes, step: int) -> None:
        self._source = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1) -> bytes:
        return self._source.read(self._step)


@pytest.mark.parametrize("step", [1, 7, 511, 513])
def test_short_reads_make_no_difference(step: int) -> None:
    data = python_tar(tarfile.PAX_FORMAT)
    assert list(Reader(Trickle(data, step))) == everything(data)


@pytest.mark.system
def test_reads_what_gnu_tar_writes(tmp_path: Path) -> None:
    (tmp_path / ("n" * 200)).write_bytes(b"content")
    (tmp_path / "link").symlink_to("t" * 180)
    for format in ("gnu", "pax", "ustar"):
        names = ["link"] if format == "ustar" else ["n" * 200, "link"]
        if format == "ustar":
            (tmp_path / "link").unlink()
            (tmp_path / "link").symlink_to("t")
        data = subprocess.run(
            ["tar", "-C", tmp_path, f"--format={format}", "-cf", "-", *names], check=True, capture_output=True
        ).stdout
        assert [entry.name for entry in everything(data)] == names
