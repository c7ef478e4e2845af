"""ADD of an archive: known by its content, unpacked safely, owners its own or those asked for."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from knarr.errors import Cancelled, LayerInvalid
from knarr.ops.copytree import CopyOptions, Tree
from knarr.ops.unpackarchive import unpack

from .conftest import listing, meta, plant

pytestmark = pytest.mark.root


def archive(*entries: tuple[str, bytes, str], owner: tuple[int, int] = (55, 66)) -> bytes:
    """A tar of (name, type, text: content or target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, text in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = kind, 0o640, 1577836800
            entry.uid, entry.gid = owner
            data = text.encode() if kind == tarfile.REGTYPE else b""
            entry.size = len(data)
            entry.linkname = "" if data else text
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


PLAIN = archive((".", tarfile.DIRTYPE, ""), ("d/f", tarfile.REGTYPE, "f"), ("l", tarfile.SYMTYPE, "d/f"))


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., bool]:
    """Write bytes as /archive of a context and ADD it."""
    (tmp_path / "context").mkdir()
    (tmp_path / "root").mkdir()

    def add(data: bytes, target: str = "/t/", options: CopyOptions = CopyOptions()) -> bool:  # noqa: B008  # a frozen record
        (tmp_path / "context/archive").write_bytes(data)
        tree = Tree(str(tmp_path / "context"), zero_owner=True)
        return unpack(tree, "/archive", str(tmp_path / "root"), target, options, check=lambda: None)

    return add


@pytest.mark.parametrize(
    "compress",
    [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["plain", "gzip", "bzip2", "xz", "zstd"],
)
def test_known_by_its_content(add: Callable[..., bool], tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    assert add(compress(PLAIN))
    assert listing(tmp_path / "root") == {"t/": "", "t/d/": "", "t/d/f": "f", "t/l": "->d/f"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        gzip.compress(b"text"),
        b"\x1f\x8b",
        b"\x28\xb5\x2f\xfd",
        bytes(1024),
        PLAIN[:100],
        os.urandom(512),
    ],
    ids=["empty", "text", "gzip of text", "cut gzip", "cut zstd", "zeros", "cut tar", "noise"],
)
def test_anything_else_is_not_unpacked(add: Callable[..., bool], tmp_path: Path, data: bytes) -> None:
    assert not add(data)
    assert listing(tmp_path / "root") == {}


def test_a_directory_or_a_fifo_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "p")
    for name in ("/d", "/p", "/nope"):
        assert not unpack(Tree(str(tmp_path)), name, str(tmp_path), "/t", CopyOptions(), check=lambda: None)


def test_owners_are_its_own_but_the_destination_is_plain(add: Callable[..., bool], tmp_path: Path) -> None:
    add(PLAIN)
    assert meta(tmp_path / "root/t")[:3] == (0o755, 0, 0)
    assert meta(tmp_path / "root/t/d/f") == (0o640, 55, 66, 1577836800)


def test_chown_is_for_the_destination_and_all_that_is_in_it(add: Callable[..., bool], tmp_path: Path) -> None:
    add(PLAIN, "/new/t/", CopyOptions(owner=(9, 10)))
    for path in ("new", "new/t", "new/t/d/f", "new/t/l"):
        assert meta(tmp_path / "root" / path)[1:3] == (9, 10)
    assert meta(tmp_path / "root/new/t/d")[:3] == (0o755, 0, 0)  # not in the archive; BuildKit leaves it so


def test_it_is_laid_over_what_is_there(add: Callable[..., bool], tmp_path: Path) -> None:
    plant(tmp_path / "root", {"t/d/f": "old", "t/d/keep": "keep", "t/l/": ""})
    add(PLAIN)
    assert listing(tmp_path / "root/t") == {"d/": "", "d/f": "f", "d/keep": "keep", "l": "->d/f"}


def test_names_that_look_like_whiteouts_are_files(add: Callable[..., bool], tmp_path: Path) -> None:
    plant(tmp_path / "root", {"t/x": "x"})
    add(archive((".wh.x", tarfile.REGTYPE, "w")))
    assert listing(tmp_path / "root/t") == {".wh.x": "w", "x": "x"}


def test_nothing_is_written_outside(add: Callable[..., bool], tmp_path: Path) -> None:
    plant(tmp_path / "outside", {"kept": "kept"})
    add(
        archive(
            ("up", tarfile.SYMTYPE, "../../outside"),
            ("abs", tarfile.SYMTYPE, str(tmp_path / "outside")),
            ("up/kept", tarfile.REGTYPE, "bad"),
            ("abs/kept", tarfile.REGTYPE, "bad"),
            (f"{tmp_path}/outside/kept", tarfile.REGTYPE, "bad"),
        )
    )
    assert listing(tmp_path / "outside") == {"kept": "kept"}


def test_a_name_that_climbs_out_is_refused(add: Callable[..., bool], tmp_path: Path) -> None:
    plant(tmp_path / "outside", {"kept": "kept"})
    with pytest.raises(LayerInvalid, match="leads out of the root"):
        add(archive(("../../outside/kept", tarfile.REGTYPE, "bad")))
    assert listing(tmp_path / "outside") == {"kept": "kept"}


def test_a_hard_link_to_the_outside_is_refused(add: Callable[..., bool]) -> None:
    with pytest.raises(LayerInvalid) as caught:
        add(archive(("h", tarfile.LNKTYPE, "../../../../etc/passwd")))
    assert caught.value.context["archive"] == "archive"


def test_an_archive_that_breaks_off_is_an_error(add: Callable[..., bool]) -> None:
    whole = archive(("a", tarfile.REGTYPE, "a" * 5000), ("b", tarfile.REGTYPE, "b" * 5000))
    with pytest.raises(LayerInvalid, match=r"archive|tar"):
        add(whole[:3000])


def test_cancellation_is_asked_for_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(PLAIN)

    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        unpack(Tree(str(tmp_path)), "/archive", str(tmp_path / "root"), "/t", CopyOptions(), check=check)
