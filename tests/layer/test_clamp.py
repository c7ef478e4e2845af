"""Layers with their times cut down: against what Go's archive/tar makes of them, and by bad input."""

from __future__ import annotations

import hashlib
import io
import tarfile

import pytest

from knarr.errors import Cancelled, LayerInvalid
from knarr.layer import tar
from knarr.layer.clamp import clamp
from knarr.layer.tar import Entry
from knarr.layer.tar_write import Writer

EPOCH = 1_700_000_000
OLD, NEW = (EPOCH - 10) * 10**9, (EPOCH + 10) * 10**9


def layer(*entries: Entry, subsecond: bool = False) -> bytes:
    out = io.BytesIO()
    writer = Writer(out, subsecond=subsecond)
    for entry in entries:
        writer.add(entry, b"x" * entry.size)
    writer.close()
    return out.getvalue()


def clamped(data: bytes) -> bytes:
    out = io.BytesIO()
    clamp(io.BytesIO(data), out, EPOCH)
    return out.getvalue()


def test_later_times_are_cut_and_earlier_ones_stay() -> None:
    made = layer(Entry("a", mtime_ns=OLD), Entry("b", mtime_ns=NEW, size=700), Entry("c/", tar.DIRECTORY, mtime_ns=NEW))

    expected = (
        Entry("a", mtime_ns=OLD),
        Entry("b", mtime_ns=EPOCH * 10**9, size=700),
        Entry("c/", tar.DIRECTORY, mtime_ns=EPOCH * 10**9),
    )
    assert clamped(made) == layer(*expected)


def test_a_layer_of_old_files_is_left_byte_by_byte() -> None:
    made = layer(
        Entry("etc/.wh.gone"),
        Entry("bin", tar.SYMLINK, 0o777, linkname="usr/bin", mtime_ns=OLD),
        Entry("usr/ping", mtime_ns=OLD, size=3, xattrs={"security.capability": b"\1\0\0\2\0 \0\0"}),
        Entry("gr\u00fcn/" + "n" * 150, mtime_ns=OLD, uid=3_000_000),
        Entry("null", tar.CHARACTER, devmajor=1, devminor=3, mtime_ns=OLD),
    )
    assert clamped(made) == made


def test_fractions_of_old_times_stay_and_those_of_new_ones_go() -> None:
    made = layer(Entry("a", mtime_ns=OLD + 5), Entry("b", mtime_ns=NEW + 5), subsecond=True)

    with tarfile.open(fileobj=io.BytesIO(clamped(made))) as archive:
        a, b = archive.getmembers()
    assert a.pax_headers == {"mtime": f"{EPOCH - 10}.000000005"}
    assert (b.mtime, b.pax_headers) == (EPOCH, {})


def test_it_is_what_go_makes_of_the_same_layer() -> None:
    made = layer(
        Entry("d/", tar.DIRECTORY, 0o755, mtime_ns=NEW),
        Entry("d/f", mode=0o4755, uid=1, gid=2, mtime_ns=NEW, size=5),
        Entry("d/.wh.g"),
        Entry("d/" + "x" * 120, tar.SYMLINK, 0o777, linkname="f", mtime_ns=OLD),
    )
    # sha256 of what BuildKit's tarconverter with Go 1.26's archive/tar writes for these bytes and this epoch
    assert hashlib.sha256(clamped(made)).hexdigest()[:16] == "6c55ca4977e56d43"


@pytest.mark.parametrize("data", [b"no tar at all" * 100, layer(Entry("a", size=9))[:600]])
def test_what_is_no_layer_is_refused(data: bytes) -> None:
    with pytest.raises(LayerInvalid):
        clamped(data)


def test_it_stops_when_told_to() -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        clamp(io.BytesIO(layer(Entry("a"))), io.BytesIO(), EPOCH, check=check)
