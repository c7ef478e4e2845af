"""Read tar streams that anyone may have made: USTAR, pax and GNU, with every length and number checked.

Memory is bounded by one chunk and `MAX_EXTENSION`, whatever the stream says.
What a layer cannot mean (sparse files, multi-volume members) is refused by name.

    reader = Reader(stream)
    for entry in reader:
        if entry.type == REGULAR:
            for data in reader.content():
                ...
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import adler32

from knarr.errors import LayerInvalid
from knarr.layer.tar import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FIFO,
    GLOBAL,
    HARDLINK,
    MAX_EXTENSION,
    NO_XATTRS,
    REGULAR,
    SYMLINK,
    Entry,
)
from knarr.layer.tar import BLOCK_DEVICE as DEVICE
from knarr.streams import CHUNK, Readable

_ZEROS = bytes(BLOCK)
_BODILESS = frozenset((HARDLINK, SYMLINK, CHARACTER, DEVICE, DIRECTORY, FIFO))
_REGULAR_FLAGS = frozenset((b"0", b"\0", b"7"))  # "7" is a contiguous file, which nobody tells apart
_KNOWN = {flag.encode(): flag for flag in _BODILESS}


class _Extension(NamedTuple):
    """What extension blocks said about the entry that follows."""

    records: dict[bytes, bytes]
    long_name: bytes | None = None
    long_link: bytes | None = None


_NONE = _Extension({})


class Reader:
    """Iterates over the entries of `stream`. Content not asked for is skipped; nothing is read twice."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self._left = 0  # content bytes of the present entry not yet given
        self._pad = 0  # bytes from the end of that content to the next block
        self._name = ""
        self._ended = False

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next entry, or None at the end of the archive.

        Raises:
            LayerInvalid: the stream is malformed, cut off, or uses what layers cannot have.
        """
        extension = _NONE
        while (block := self._header()) is not None:
            flag = block[156:157]
            size = _size(block)
            if flag in _REGULAR_FLAGS or flag in _KNOWN:
                return self._entry(block, flag, size, extension)
            if flag == b"x":
                extension = extension._replace(records=_records(self._body(size, "pax header")))
            elif flag == b"L":
                extension = extension._replace(long_name=self._body(size, "long name").partition(b"\0")[0])
            elif flag == b"K":
                extension = extension._replace(long_link=self._body(size, "long link").partition(b"\0")[0])
            elif flag == GLOBAL.encode():
                self._body(size, "global pax header")  # ignored, as containerd does: git archive puts a comment there
            else:
                raise _refused(flag, _text(block[:100]))
        if extension is not _NONE:
            raise LayerInvalid("the tar ends after an extension header, before its entry")
        return None

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes of the present entry's content; empty at its end."""
        if not self._left or size == 0:
            return b""
        buffer, at = self._buffer, self._at
        if at == len(buffer):
            buffer, at = self._fill(), 0
        take = min(self._left, len(buffer) - at)
        if 0 < size < take:
            take = size
        self._at = at + take
        self._left -= take
        return buffer[at : at + take]

    def content(self) -> Iterator[bytes]:
        """The rest of the present entry's content, in pieces of at most `CHUNK`."""
        while data := self.read(CHUNK):
            yield data

    def drain(self) -> None:
        """Read the stream to its very end, so that what hashes or verifies underneath has seen all of it."""
        self._buffer = b""
        while self._stream.read(CHUNK):
            pass

    def _fill(self) -> bytes:
        data = self._stream.read(CHUNK)
        if not data:
            raise LayerInvalid(f"the tar is cut off inside {self._name or 'its first entry'}")
        self._buffer, self._at = data, 0
        return data

    def _skip(self, size: int) -> None:
        self._at += size
        while (over := self._at - len(self._buffer)) > 0:
            self._fill()
            self._at = over

    def _header(self) -> bytes | None:
        """The next block that is a header, verified; None at the end."""
        if self._ended:
            return None
        if self._left or self._pad:
            self._skip(self._left + self._pad)
            self._left = self._pad = 0
        block = self._block(at_end=True)
        if block is None or block == _ZEROS:
            self._ended = True
            # One block of zeros and then more is damage; one and then nothing is a writer that was sparing.
            after = self._block(at_end=True) if block is not None else None
            if after is not None and after != _ZEROS:
                raise LayerInvalid(f"the tar has an empty block after {self._name or 'nothing'} and then goes on")
            return None
        _verify(block, self._name)
        return block

    def _block(self, *, at_end: bool = False) -> bytes | None:
        at = self._at
        block = self._buffer[at : at + BLOCK]
        if len(block) == BLOCK:
            self._at = at + BLOCK
            return block
        parts, missing = [block], BLOCK - len(block)
        while missing:
            data = self._stream.read(CHUNK)
            if not data:
                if at_end and missing == BLOCK:
                    self._buffer, self._at = b"", 0
                    return None
                raise LayerInvalid(f"the tar is cut off after {self._name or 'nothing'}, inside a header")
            parts.append(data[:missing])
            self._buffer, self._at = data, min(missing, len(data))
            missing -= self._at
        return b"".join(parts)

    def _body(self, size: int, what: str) -> bytes:
        """The whole content of an extension header."""
        if size > MAX_EXTENSION:
            raise LayerInvalid(f"a {what} of {size} bytes after {self._name or 'nothing'}; {MAX_EXTENSION} are allowed")
        self._left, self._pad = size, -size % BLOCK
        return b"".join(self.content())

    def _entry(self, block: bytes, flag: bytes, size: int, extension: _Extension) -> Entry:
        mode, uid, gid = _owner(block[100:124])
        name, link = _names(block)
        magic = block[257:265]
        if magic == b"ustar\x0000" or magic == b"ustar  \0":
            uname, gname = _text(block[265:297]), _text(block[297:329])
        else:
            uname = gname = ""
        kind = _KNOWN.get(flag, REGULAR)
        major, minor = _device(block) if kind in (CHARACTER, DEVICE) else (0, 0)
        entry = Entry(
            name, kind, mode, uid, gid, size, _number(block[136:148], "time") * 10**9, link, major, minor, NO_XATTRS
        )
        if uname or gname:
            entry = entry._replace(uname=uname, gname=gname)
        if extension is not _NONE:
            entry = _extend(entry, extension)
        if kind is REGULAR and flag == b"\0" and entry.name.endswith("/"):
            kind = DIRECTORY  # how directories were written before USTAR
            entry = entry._replace(type=kind)
        if kind is not REGULAR and entry.size:
            entry = entry._replace(size=0)  # some writers give links the size of their target; no content follows
        self._name = entry.name
        self._left, self._pad = entry.size, -entry.size % BLOCK
        return entry


def _refused(flag: bytes, name: str) -> LayerInvalid:
    if flag == b"S":
        return LayerInvalid(
            f"{name}: GNU sparse files are not supported in layers", hint="make the tar without --sparse"
        )
    return LayerInvalid(f"{name}: tar entries of type {flag!r} are not supported in layers")


def _verify(block: bytes, before: str) -> None:
    """Check the header's checksum: the sum of its bytes, its own field taken as spaces."""
    stored = _number(block[148:156], "checksum")
    # Adler-32 begins with the sum modulo 65521, in C; halves of a block stay below that (see tar_write).
    field = sum(block[148:156])
    total = (adler32(block[:256], 0) & 0xFFFF) + (adler32(block[256:], 0) & 0xFFFF) - field + 256
    if stored != total and stored != _signed_sum(block):
        if not before:
            raise LayerInvalid("this is no tar: the checksum of its first header is wrong")
        raise LayerInvalid(f"the tar has a damaged header after {before}: its checksum is wrong")


def _signed_sum(block: bytes) -> int:
    """The sum over signed bytes, as some old writers took it."""
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:])


def _text(field: bytes) -> str:
    end = field.find(0)
    return (field if end < 0 else field[:end]).decode("utf-8", "surrogateescape")


def _names(block: bytes) -> tuple[str, str]:
    name = block[:100]
    end = name.find(0)
    if end >= 0:
        name = name[:end]
    if block[345] and block[257:265] == b"ustar\x0000":
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    link = block[157:257]
    end = link.find(0)
    return name.decode("utf-8", "surrogateescape"), link[:end].decode("utf-8", "surrogateescape") if end else ""


def _size(block: bytes) -> int:
    size = _number(block[124:136], "size")
    if size < 0:
        raise LayerInvalid(f"{_text(block[:100])}: a negative size in the tar header")
    return size


_owners: dict[bytes, tuple[int, int, int]] = {}


def _owner(field: bytes) -> tuple[int, int, int]:
    """Mode, uid and gid. Remembered: a layer has a handful of combinations."""
    known = _owners.get(field)
    if known is None:
        known = (_number(field[:8], "mode") & 0o7777, _number(field[8:16], "uid"), _number(field[16:24], "gid"))
        if known[1] < 0 or known[2] < 0:
            raise LayerInvalid("a tar header has a negative owner")
        if len(_owners) < 4096:
            _owners[field] = known
    return known


def _device(block: bytes) -> tuple[int, int]:
    return _number(block[329:337], "device"), _number(block[337:345], "device")


def _number(field: bytes, what: str) -> int:
    """A numeric field: octal digits, or GNU's base 256 with the top bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            value -= 1 << (8 * len(field) - 1)
        if not -(1 << 63) <= value < 1 << 63:
            raise LayerInvalid(f"a tar header has a {what} of more than 63 bits")
        return value
    digits = field.strip(b"\0 ").partition(b"\0")[0]
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise LayerInvalid(f"a tar header has a {what} that is not a number: {bytes(field)!r}")


def _records(body: bytes) -> dict[bytes, bytes]:
    """The records of a pax header: `length key=value` and a newline, each."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 21)
        length = body[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        if not space < end <= len(body) or body[end - 1] != 0x0A:
            raise LayerInvalid("a pax header has a record of impossible length")
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not key or not equals:
            raise LayerInvalid(f"a pax header has a record without a name: {key[:40]!r}")
        records[key] = value
        at = end
    return records


def _extend(entry: Entry, extension: _Extension) -> Entry:
    """`entry` with what its extension headers say; pax wins over GNU, both over the header."""
    changes: dict[str, Any] = {}  # a field's name → its value, of whichever type that field has
    if extension.long_name is not None:
        changes["name"] = _path(extension.long_name)
    if extension.long_link is not None:
        changes["linkname"] = _path(extension.long_link)
    xattrs: dict[str, bytes] = {}
    for key, value in extension.records.items():
        if key.startswith(b"SCHILY.xattr."):
            xattrs[_path(key[13:])] = value
        elif key.startswith(b"GNU.sparse."):
            raise _refused(b"S", entry.name)
        elif value and (field := _FIELDS.get(key)):
            changes[field] = _pax_value(field, value, entry.name)
    if xattrs:
        changes["xattrs"] = xattrs
    return entry._replace(**changes)


_FIELDS = {
    b"path": "name",
    b"linkpath": "linkname",
    b"size": "size",
    b"uid": "uid",
    b"gid": "gid",
    b"mtime": "mtime_ns",
    b"uname": "uname",
    b"gname": "gname",
}


def _path(raw: bytes) -> str:
    if b"\0" in raw:
        raise LayerInvalid(f"{raw[:80]!r}: a name with a NUL byte")
    return raw.decode("utf-8", "surrogateescape")


def _pax_value(field: str, value: bytes, name: str) -> object:
    if field in ("name", "linkname", "uname", "gname"):
        return _path(value)
    if field == "mtime_ns":
        return _pax_time(value, name)
    if not value.isdigit() or len(value) > 19 or int(value) >= 1 << 63:
        raise LayerInvalid(f"{name}: the pax header gives {field} as {value[:40]!r}")
    return int(value)


def _pax_time(value: bytes, name: str) -> int:
    """Nanoseconds of a decimal number of seconds; digits past the ninth are cut, as Go does."""
    sign = -1 if value.startswith(b"-") else 1
    whole, _, part = value.removeprefix(b"-").partition(b".")
    if not whole.isdigit() or len(whole) > 18 or not (part.isdigit() or not part):
        raise LayerInvalid(f"{name}: the pax header gives a time as {value[:40]!r}")
    return sign * (int(whole) * 10**9 + int(part[:9].ljust(9, b"0")))
