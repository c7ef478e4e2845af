"""Write a layer as eStargz: a gzip layer of which every file can be read without those before it.

The tar stays as it is, byte for byte. It is cut into gzip members so that the
content of each file (each 4 MiB of a large one) begins one of its own; a table of
contents in a last tar says where they begin and what their digests are, and a
footer of 51 bytes says where that table begins. For a reader who knows none of
this the layer is a gzip stream like others, with the table behind the end of its
archive. The diffID counts that table, since it is of all that decompresses.

The cuts, the fields and their order are those of stargz-snapshotter's `estargz`
package as BuildKit calls it: without landmarks, since nothing is known of what a
container reads first.

    with Writer(blob, tail=diff.write) as writer:
        write_tar(writer)
    writer.annotations

Spec: stargz-snapshotter, docs/estargz.md.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import SEEK_END, BytesIO, RawIOBase
from posixpath import normpath
from types import TracebackType
from typing import Any

from knarr.errors import LayerInvalid
from knarr.layer.compress import Block, Blocks, gzip_member
from knarr.layer.tar import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    GLOBAL,
    HARDLINK,
    MAX_EXTENSION,
    REGULAR,
    SYMLINK,
    Entry,
)
from knarr.layer.tar_read import Reader
from knarr.layer.tar_write import header
from knarr.spec import gojson
from knarr.spec.digest import Digest
from knarr.spec.mediatype import TOC_DIGEST, UNCOMPRESSED_SIZE
from knarr.streams import CHUNK, Readable, Writable

TOC_NAME = "stargz.index.json"
FOOTER_SIZE = 51
_CHUNK = 4 << 20  # bytes of a file in one member at most; what the `estargz` package has where nothing else is said
_MEMBER = 4 << 20  # bytes of headers after which a member ends although no content begins
_WORKERS = 4  # two members each are under way: 36 MiB in all
_ZEROS = bytes(BLOCK)
_EXTENSIONS = frozenset((b"x", b"L", b"K", GLOBAL.encode()))
_TYPES = {
    REGULAR: "reg",
    HARDLINK: "hardlink",
    SYMLINK: "symlink",
    CHARACTER: "char",
    BLOCK_DEVICE: "block",
    DIRECTORY: "dir",
    FIFO: "fifo",
}


class Writer:
    """A compressor whose input must be a tar. `annotations` may be read once its block was left without an error."""

    def __init__(self, out: Writable, *, level: int | None, jobs: int, tail: Callable[[bytes], object]) -> None:
        """`tail` is given what the diffID counts beyond what is written here: the table's tar."""
        self._out = out
        self._level = level
        self._tail = tail
        self._members = _Members(out, level, min(jobs, _WORKERS))
        self._tar = _Tar(self._members.put)
        self.annotations: dict[str, str] = {}

    def __enter__(self) -> Writer:
        self._members.__enter__()
        return self

    def write(self, data: bytes, /) -> int:
        self._tar.feed(data)
        return len(data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is None:
            try:
                self._tar.close()
            except BaseException as failure:
                self._members.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._members.__exit__(kind, error, tb)
        if error is None:
            self._close()

    def _close(self) -> None:
        table = toc(self._tar.entries, self._members.offsets)
        blocks = header(TOC_NAME.encode(), REGULAR, 0, 0, 0, len(table), 0) + table
        blocks += bytes(-len(table) % BLOCK + 2 * BLOCK)
        self._tail(blocks)
        self._out.write(gzip_member(blocks, self._level) + footer(self._members.end))
        self.annotations = {
            TOC_DIGEST: str(Digest.of(table)),
            UNCOMPRESSED_SIZE: str(self._tar.size + len(blocks)),
        }


def footer(offset: int) -> bytes:
    """The last bytes of the layer: an empty gzip member whose extra field has the table's offset."""
    field = b"%016xSTARGZ" % offset
    extra = b"SG" + struct.pack("<H", len(field)) + field
    start = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<H", len(extra)) + extra
    return start + b"\x01\x00\x00\xff\xff" + bytes(8)


def toc_offset(end: bytes) -> int | None:
    """Where the table begins, by the last `FOOTER_SIZE` bytes of a layer; None: it is no eStargz."""
    if len(end) != FOOTER_SIZE or end[16:32].strip(b"0123456789abcdef") or end != footer(int(end[16:32], 16)):
        return None
    return int(end[16:32], 16)


def without_table(blob: Readable) -> Readable:
    """The compressed layer up to the table, if it is a file and ends with such a footer; else all of it."""
    if not isinstance(blob, RawIOBase):
        return blob
    size = blob.seek(0, SEEK_END)
    blob.seek(max(0, size - FOOTER_SIZE))
    offset = toc_offset(blob.read(FOOTER_SIZE) or b"")
    blob.seek(0)
    return blob if offset is None else _First(blob, offset)


class _First:
    """The first `size` bytes of a stream."""

    def __init__(self, source: Readable, size: int) -> None:
        self._source = source
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data = self._source.read(min(size, self._left))
        self._left -= len(data)
        return data


def toc(entries: list[dict[str, Any]], offsets: list[int]) -> bytes:
    """The table: `entries`, whose `offset` is the number of a member so far, with the members' offsets."""
    told = [_told(entry, offsets) for entry in entries]
    return gojson.dump({"version": 1, "entries": told or None}, indent="\t")


_FIELDS = (
    *("name", "type", "size", "modtime", "linkName", "mode", "uid", "gid", "userName", "groupName", "offset"),
    *("devMajor", "devMinor", "xattrs", "digest", "chunkOffset", "chunkSize", "chunkDigest"),
)


def _told(entry: dict[str, Any], offsets: list[int]) -> dict[str, Any]:
    if "offset" in entry:
        entry = {**entry, "offset": offsets[entry["offset"]]}
    # What is empty or zero is left out, as Go does; name and type never are.
    return {key: entry[key] for key in _FIELDS if key in entry and (entry[key] or key in ("name", "type"))}


class _Members(Blocks):
    """Gzip members, compressed by several threads and written in order; says where each of them began."""

    def __init__(self, out: Writable, level: int | None, jobs: int) -> None:
        def squeeze(block: Block) -> None:
            block.output = gzip_member(block.source, level)

        super().__init__(out, squeeze, jobs, _MEMBER)
        self.offsets: list[int] = []
        self.end = 0

    def put(self, data: bytes) -> None:
        """The content of one member."""
        self.take(data)

    def gave(self, block: Block) -> None:
        self.offsets.append(self.end)
        self.end += len(block.output)


class _Tar:
    """Follows a tar as it comes in pieces of any size: cuts it into members, and notes its entries."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self.entries: list[dict[str, Any]] = []
        self.size = 0
        self._put = put
        self._members = 0
        self._member = bytearray()  # what the present member has so far
        self._head = bytearray()  # blocks of an entry's headers that are not whole yet
        self._body = 0  # bytes to come of an extension header
        self._left = 0  # bytes to come of the present file
        self._pad = 0  # bytes to come before the next header
        self._ended = False
        self._file: dict[str, Any] = {}
        self._written = 0  # bytes of the present file
        self._whole = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._chunk_left = 0
        self._chunk_entry: dict[str, Any] = {}
        self._names: dict[tuple[str, int], str] = {}  # owners' names that were told

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        view, at = memoryview(data), 0
        while at < len(view):
            if self._left:
                at += self._content(view[at:])
            elif self._pad or self._ended:
                take = len(view) - at if self._ended else min(self._pad, len(view) - at)
                self._add(view[at : at + take])
                self._pad -= 0 if self._ended else take
                at += take
            else:
                want = self._body or BLOCK - len(self._head) % BLOCK
                part = view[at : at + want]
                self._head += part
                at += len(part)
                if self._body:
                    self._body -= len(part)
                elif len(self._head) % BLOCK == 0:
                    self._block()

    def close(self) -> None:
        """The tar has ended.

        Raises:
            LayerInvalid: in the middle of an entry.
        """
        if self._left or self._pad or self._head:
            raise LayerInvalid(f"the tar is cut off inside {self._file.get('name') or 'its first entry'}")
        self._flush()

    def _block(self) -> None:
        """One more block of headers is there, the last of `_head`."""
        block = bytes(self._head[-BLOCK:])
        if block == _ZEROS:
            self._ended = True
        elif block[156:157] in _EXTENSIONS:
            size = _length(block)
            self._body = size + -size % BLOCK
            return
        else:
            entry = Reader(BytesIO(self._head)).next()
            if entry is not None:
                self._begin(entry)
        self._add(self._head)
        self._head.clear()
        if self._left:
            self._cut()

    def _begin(self, entry: Entry) -> None:
        if normpath("/" + entry.name).lstrip("/") == TOC_NAME:
            raise LayerInvalid(
                f"a file {TOC_NAME} in / cannot be in an eStargz layer, which has its table under that name",
                hint="remove it, or use compression=gzip",
            )
        self._file = noted = self._described(entry)
        self.entries.append(noted)
        if entry.type == REGULAR:
            self._left, self._pad, self._written = entry.size, -entry.size % BLOCK, 0
            noted["size"] = entry.size
            if not entry.size:
                noted["digest"] = str(Digest.of(b""))
            self._whole = hashlib.sha256()

    def _described(self, entry: Entry) -> dict[str, Any]:
        noted: dict[str, Any] = {
            "name": entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "type": _TYPES[entry.type],
            "modtime": _time(entry.mtime_ns),
            "mode": entry.mode,
            "uid": entry.uid,
            "gid": entry.gid,
            "userName": self._once("u", entry.uid, entry.uname),
            "groupName": self._once("g", entry.gid, entry.gname),
            "xattrs": {key: b64encode(value).decode() for key, value in sorted(entry.xattrs.items())},
        }
        if entry.type in (HARDLINK, SYMLINK):
            noted["linkName"] = entry.linkname
        elif entry.type in (CHARACTER, BLOCK_DEVICE):
            noted.update(devMajor=entry.devmajor, devMinor=entry.devminor)
        return noted

    def _once(self, kind: str, id: int, name: str) -> str:
        """`name`, unless it was the last told of that id."""
        if not name or self._names.get((kind, id)) == name:
            return ""
        self._names[kind, id] = name
        return name

    def _cut(self) -> None:
        """The next bytes are a chunk's: they begin a member."""
        self._flush()
        size = min(self._left, _CHUNK)
        entry = self._file if not self._written else {"name": self._file["name"], "type": "chunk"}
        if self._written:
            self.entries.append(entry)
        entry["offset"] = self._members
        entry["chunkOffset"] = self._written
        if size == _CHUNK:
            entry["chunkSize"] = size  # none: to the end of the file
        self._chunk, self._chunk_left, self._chunk_entry = hashlib.sha256(), size, entry

    def _content(self, view: memoryview) -> int:
        part = view[: self._chunk_left]
        self._member += part
        self._chunk.update(part)
        if self._file["size"] > _CHUNK:
            self._whole.update(part)
        taken = len(part)
        self._left -= taken
        self._written += taken
        self._chunk_left -= taken
        if not self._chunk_left:
            self._chunk_entry["chunkDigest"] = f"sha256:{self._chunk.hexdigest()}"
            if self._left:
                self._cut()
            else:
                whole = self._whole if self._file["size"] > _CHUNK else self._chunk
                self._file["digest"] = f"sha256:{whole.hexdigest()}"
        return taken

    def _add(self, data: bytes | bytearray | memoryview) -> None:
        self._member += data
        while len(self._member) > _MEMBER + _CHUNK:  # headers, or padding, without end
            self._put(bytes(self._member[:_MEMBER]))
            self._members += 1
            del self._member[:_MEMBER]

    def _flush(self) -> None:
        if self._member:
            self._put(bytes(self._member))
            self._members += 1
            self._member.clear()


def _length(block: bytes) -> int:
    """The size of an extension header.

    Raises:
        LayerInvalid: it is no number, or larger than any reader takes.
    """
    digits = block[124:136].strip(b"\0 ")
    size = int(digits, 8) if digits and not digits.strip(b"01234567") else -1
    if not 0 <= size <= MAX_EXTENSION:
        raise LayerInvalid(f"the tar has an extension header of {digits!r} bytes; {MAX_EXTENSION} are allowed")
    return size


def _time(ns: int) -> str:
    """RFC 3339, to the nearest second; nothing for the epoch."""
    if 0 <= ns < 10**9:
        return ""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=(ns + 5 * 10**8) // 10**9)
    except OverflowError:
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
