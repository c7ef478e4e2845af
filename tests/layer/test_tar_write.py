from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import ContentError
from knarr.layer import tar
from knarr.layer.tar import Entry
from knarr.layer.tar_write import Writer, encode
from knarr.streams import CHUNK


def written(*entries: Entry, subsecond: bool = False) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, subsecond=subsecond)
    for entry in entries:
        writer.add(entry, bytes(entry.size))
    writer.close()
    return out.getvalue()


def only(data: bytes) -> tarfile.TarInfo:
    (info,) = listed(data)
    return info


def listed(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


# sha256 of what Go 1.26's archive/tar writes for the same headers (Format: FormatPAX, as containerd sets it).
GO = {
    "plain": (
        Entry("etc/motd", mode=0o4755, uid=1, gid=2, mtime_ns=1700000000 * 10**9),
        "c88aba362abd825c",
    ),
    "directory": (Entry("usr/lib/", tar.DIRECTORY, 0o755, mtime_ns=10**9), "fcc6ceb2b4590350"),
    "symlink": (Entry("bin", tar.SYMLINK, 0o777, linkname="usr/bin"), "987529868bdd7b69"),
    "hardlink": (Entry("b", tar.HARDLINK, 0o644, linkname="a"), "e28dca54db9ab509"),
    "device": (Entry("dev/null", tar.CHARACTER, 0o666, devmajor=1, devminor=3), "cf3350ba8c2fff66"),
    "prefix": (Entry("d" * 90 + "/" + "f" * 60), "4ef1ac83c1fdc509"),
    "slash at the end": (Entry("d" * 90 + "/" + "f" * 60 + "/", tar.DIRECTORY, 0o755), "0e85b968a62abc66"),
    "long": (Entry("x" * 150), "42693f34dcca3310"),
    "long link": (Entry("l", tar.SYMLINK, 0o777, linkname="t" * 120), "f98fcddf87ca18ab"),
    "not ascii": (Entry("grün/ß"), "398f16348cc8cea7"),
    "big owner": (Entry("f", uid=3000000, gid=4000000000), "402b63fc0a19c355"),
    "xattr": (Entry("bin/ping", xattrs={"security.capability": b"\1\0\0\2\0 \0\0"}), "4121eee1419dcc02"),
    "xattr and long": (Entry("d" * 90 + "/" + "f" * 60, xattrs={"user.a": b"b"}), "b232c3008f37f197"),
    "before 1970": (Entry("old", mtime_ns=-(10**9)), "eee8fa66b664dae9"),
}


@pytest.mark.parametrize("case", GO)
def test_blocks_are_those_of_go(case: str) -> None:
    entry, expected = GO[case]
    assert hashlib.sha256(encode(entry)).hexdigest()[:16] == expected


def test_python_reads_every_kind() -> None:
    entries = [entry for entry, _ in GO.values()]
    infos = listed(written(*entries))
    assert [info.name for info in infos] == [entry.name.rstrip("/") for entry in entries]
    assert [info.type.decode() for info in infos] == [entry.type for entry in entries]
    assert [(info.mode, info.uid, info.gid) for info in infos] == [(e.mode, e.uid, e.gid) for e in entries]


def test_a_large_size_needs_a_record() -> None:
    info = tarfile.TarInfo.frombuf(encode(Entry("big", size=1 << 33))[-512:], "utf-8", "strict")
    assert info.size == 0
    assert b"19 size=8589934592\n" in encode(Entry("big", size=1 << 33))


def test_fractions_of_a_second_only_when_asked_for() -> None:
    entry = Entry("f", mtime_ns=1_500_000_000)
    assert only(written(entry)).mtime == 1
    assert only(written(entry, subsecond=True)).pax_headers["mtime"] == "1.5"
    assert b"mtime=-0.25\n" in encode(entry._replace(mtime_ns=-250_000_000), subsecond=True)


def test_user_names_are_written_when_given() -> None:
    info = only(written(Entry("f", uname="knarr", gname="g" * 40)))
    assert (info.uname, info.gname) == ("knarr", "g" * 40)


def test_a_record_counts_its_own_digits() -> None:
    for size in range(80, 110):
        data = encode(Entry("f", xattrs={"user.a": b"x" * size}))
        length, _, _ = data[512:].partition(b" ")
        assert data[512 + int(length) - 1 : 512 + int(length)] == b"\n"


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a\0b"),
        Entry("a", tar.SYMLINK, linkname="b\0c"),
        Entry("a", mode=-1),
        Entry("a", tar.CHARACTER, devmajor=1 << 24),
        Entry("a", xattrs={"user.a=b": b""}),
        Entry("a", xattrs={"user.a": bytes(2 << 20)}),
    ],
)
def test_what_a_tar_cannot_say_is_an_error(entry: Entry) -> None:
    with pytest.raises(ContentError):
        encode(entry)


def test_content_must_be_as_long_as_announced() -> None:
    writer = Writer(io.BytesIO())
    with pytest.raises(ContentError, match="expected 3 bytes, got 2"):
        writer.add(Entry("f", size=3), b"ab")
    with pytest.raises(ContentError, match="expected 3 bytes, got 2"):
        writer.add_stream(Entry("f", size=3), io.BytesIO(b"ab"))


class Pieces:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))


def test_output_comes_in_whole_chunks() -> None:
    pieces = Pieces()
    writer = Writer(pieces)
    writer.add(Entry("small", size=10), b"0123456789")
    writer.add_stream(Entry("large", size=5_000_000), io.BytesIO(bytes(5_000_000)))
    writer.add(Entry("at once", size=3_000_000), bytes(3_000_000))
    writer.close()
    assert set(pieces.sizes[:-1]) == {CHUNK}
    assert sum(pieces.sizes) % 512 == 0


@pytest.mark.system
def test_gnu_tar_agrees() -> None:
    entries = [entry for entry, _ in GO.values()]
    output = subprocess.run(["tar", "-tf", "-"], input=written(*entries), capture_output=True, check=True).stdout
    assert output.startswith(b"etc/motd\nusr/lib/\n")
    assert len(output.splitlines()) == len(entries)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@settings(deadline=None, max_examples=150)
@given(
    name=names.filter(lambda name: not name.endswith("/")),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32),
    mtime=st.integers(-(2**31), 2**34),
    value=st.binary(max_size=50),
)
def test_python_reads_what_we_write(name: str, mode: int, uid: int, mtime: int, value: bytes) -> None:
    data = written(Entry(name, mode=mode, uid=uid, mtime_ns=mtime * 10**9, size=3, xattrs={"user.x": value}))
    info = only(data)
    assert (info.name, info.mode, info.uid, int(info.mtime), info.size) == (name, mode, uid, mtime, 3)
    record = b"SCHILY.xattr.user.x=" + value + b"\n"
    assert record in data
