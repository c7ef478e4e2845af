"""Write tar streams whose bytes depend on the entries and on nothing else.

The blocks are those Go's archive/tar writes for the same headers (tried against
Go 1.26), so that a layer made here and by BuildKit from equal files has equal
bytes: USTAR, with the 155-byte prefix for long names, and a pax header only for
what USTAR cannot say. Two zero blocks end the stream, without record padding.

    writer = Writer(out)
    writer.add(Entry("etc/motd", size=3), b"hi\\n")
    writer.close()
"""

from __future__ import annotations

from collections.abc import Mapping
from posixpath import normpath
from zlib import adler32

from knarr.errors import ContentError
from knarr.layer.tar import BLOCK, MAX_EXTENSION, REGULAR, Entry
from knarr.streams import CHUNK, Readable, Writable

_ZEROS = bytes(BLOCK)
_MAGIC = b"ustar\x0000" + bytes(64)
_MAGIC_SUM = sum(_MAGIC)
_NO_DEVICE = b"0000000\x000000000\x00"
_SPACES = b" " * 8  # what the checksum field counts as while the sum is taken
_OCTAL_7 = 0o7777777  # largest number in an 8-byte field
_OCTAL_11 = 0o77777777777  # largest number in a 12-byte field
_FLAGS = {flag: flag.encode() for flag in "01234567xg"}
_ASCII_ONLY = bytes(range(1, 128))
_DROPPED = bytes(set(range(256)) - set(_ASCII_ONLY))


class Writer:
    """A tar stream going to `out`, which is written to in pieces of exactly `CHUNK` bytes until the last.

    With `subsecond` times keep their nanoseconds (as a pax record); without,
    they are cut to the second, as layers have them.
    """

    def __init__(self, out: Writable, *, subsecond: bool = False) -> None:
        self._out = out
        self._subsecond = subsecond
        self._parts: list[bytes] = []
        self._pending = 0

    def add(self, entry: Entry, content: bytes = b"") -> None:
        """Write one entry whose content is at hand.

        Raises:
            ContentError: `content` is not `entry.size` bytes, or a field cannot be expressed.
        """
        if len(content) != entry.size:
            raise _wrong_size(entry, len(content))
        self.put(encode(entry, subsecond=self._subsecond), content)

    def add_stream(self, entry: Entry, content: Readable) -> None:
        """Write one entry, reading exactly `entry.size` bytes of `content`.

        Raises:
            ContentError: the stream ends early, or a field cannot be expressed.
        """
        self.put(encode(entry, subsecond=self._subsecond))
        left = entry.size
        while left:
            data = content.read(min(left, self.room))
            if not data:
                raise _wrong_size(entry, entry.size - left)
            self.put_raw(data)
            left -= len(data)
        self.put_raw(_ZEROS[: -entry.size % BLOCK])

    @property
    def room(self) -> int:
        """Bytes to the end of the present chunk: reading that many at a time avoids a copy."""
        return CHUNK - self._pending

    def put(self, header: bytes, content: bytes = b"") -> None:
        """Write blocks made by `encode`, and all of the content that belongs to them."""
        parts = self._parts
        parts.append(header)
        size = len(content)
        if size:
            parts.append(content)
            if pad := -size % BLOCK:
                parts.append(_ZEROS[:pad])
                size += pad
        self._pending += len(header) + size
        if self._pending >= CHUNK:
            self._flush()

    def put_raw(self, data: bytes) -> None:
        """Write bytes as they are: a piece of content, or its padding."""
        self._parts.append(data)
        self._pending += len(data)
        if self._pending >= CHUNK:
            self._flush()

    def close(self) -> None:
        """End the stream. `out` stays open."""
        self.put_raw(bytes(2 * BLOCK))
        if self._pending:
            self._out.write(b"".join(self._parts))
            self._parts, self._pending = [], 0

    def _flush(self) -> None:
        data = b"".join(self._parts)
        full = len(data) - len(data) % CHUNK
        if full == CHUNK == len(data):
            self._out.write(data)
        else:
            view = memoryview(data)
            for start in range(0, full, CHUNK):
                self._out.write(bytes(view[start : start + CHUNK]))
        rest = data[full:]
        self._parts = [rest] if rest else []
        self._pending = len(rest)


def _wrong_size(entry: Entry, seen: int) -> ContentError:
    return ContentError(f"{entry.name}: the file changed while it was read: expected {entry.size} bytes, got {seen}")


def encode(entry: Entry, *, subsecond: bool = False) -> bytes:
    """The header blocks of one entry.

    Raises:
        ContentError: a field that neither USTAR nor pax can express.
    """
    records = {f"SCHILY.xattr.{key}".encode(): value for key, value in entry.xattrs.items()}
    seconds, nanos = divmod(entry.mtime_ns, 10**9)
    if nanos and subsecond:
        records[b"mtime"] = _time(entry.mtime_ns)
    owners = _names(entry, records) if entry.uname or entry.gname else b""
    return header(
        entry.name.encode("utf-8", "surrogateescape"),
        entry.type,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size if entry.type == REGULAR else 0,
        seconds,
        entry.linkname.encode("utf-8", "surrogateescape"),
        device=(entry.devmajor, entry.devminor),
        records=records,
        owners=owners,
    )


def _time(ns: int) -> bytes:
    """Seconds with as many decimals as needed. Before 1970 the sign stands for the decimals, too."""
    seconds, nanos = divmod(abs(ns), 10**9)
    return b"%b%d.%b" % (b"-" if ns < 0 else b"", seconds, (b"%09d" % nanos).rstrip(b"0"))


def _names(entry: Entry, records: dict[bytes, bytes]) -> bytes:
    """The user and group name fields; a name that does not fit becomes a record."""
    fields = []
    for key, name in ((b"uname", entry.uname), (b"gname", entry.gname)):
        raw = name.encode("utf-8", "surrogateescape")
        if b"\0" in raw:
            raise ContentError(f"{entry.name!r}: an owner's name cannot hold a NUL byte")
        if len(raw) > 32 or not raw.isascii():
            records[key] = raw
            raw = raw.translate(None, _DROPPED)[:32]
        fields.append(raw.ljust(32, b"\0"))
    return b"".join(fields)


def header(
    name: bytes,
    flag: str,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes = b"",
    *,
    device: tuple[int, int] = (0, 0),
    records: Mapping[bytes, bytes] | None = None,
    owners: bytes = b"",
) -> bytes:
    """The header blocks for plain values: the quick way for a walk. `mtime` in seconds, `records` pax records.

    Raises:
        ContentError: a field that neither USTAR nor pax can express.
    """
    if (
        records
        or len(name) > 100
        or len(link) > 100
        or not (name.isascii() and link.isascii())
        or not (0 <= uid <= _OCTAL_7 and 0 <= gid <= _OCTAL_7 and size <= _OCTAL_11 and 0 <= mtime <= _OCTAL_11)
        or b"\0" in name
        or b"\0" in link
    ):
        return _extended(name, flag, mode, uid, gid, size, mtime, link, device, dict(records or {}), owners)
    return _block(name, flag, mode, uid, gid, size, mtime, link, device, b"", owners)


def _extended(
    name: bytes,
    flag: str,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int],
    records: dict[bytes, bytes],
    owners: bytes,
) -> bytes:
    if b"\0" in name or b"\0" in link:
        raise ContentError(f"{name!r}: a name in a tar cannot hold a NUL byte")
    prefix, suffix = _split(name)
    named = dict(records)
    if not name.isascii() or (len(name) > 100 and not prefix):
        named[b"path"] = name
    if not link.isascii() or len(link) > 100:
        named[b"linkpath"] = link
    for key, value, limit in (
        (b"uid", uid, _OCTAL_7),
        (b"gid", gid, _OCTAL_7),
        (b"size", size, _OCTAL_11),
        (b"mtime", mtime, _OCTAL_11),
    ):
        if not 0 <= value <= limit:
            named.setdefault(key, b"%d" % value)
    if not named:
        return _block(suffix, flag, mode, uid, gid, size, mtime, link, device, prefix, owners)
    if len(name) > 100:
        named[b"path"] = name  # Go never splits a name in a pax header's main block
    return _pax(name, named) + _block(
        _cut(name),
        flag,
        mode,
        uid if uid <= _OCTAL_7 else 0,
        gid if gid <= _OCTAL_7 else 0,
        size if size <= _OCTAL_11 else 0,
        mtime if 0 <= mtime <= _OCTAL_11 else 0,
        link.translate(None, _DROPPED)[:100],
        device,
        b"",
        owners,
    )


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and rest of a long name, as USTAR has them; an empty prefix when it cannot be split."""
    if len(name) <= 100 or not name.isascii():
        return b"", name
    end = min(len(name) - name.endswith(b"/"), 156)
    at = name.rfind(b"/", 0, end)
    if at <= 0 or not 0 < len(name) - at - 1 <= 100:
        return b"", name
    return name[:at], name[at + 1 :]


def _cut(name: bytes) -> bytes:
    """A pax entry's name for readers that know only USTAR."""
    plain = name.translate(None, _DROPPED)
    return plain[:100].rstrip(b"/") if len(plain) > 100 else plain


def _pax(name: bytes, records: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    if len(body) > MAX_EXTENSION:
        raise ContentError(f"{name!r}: {len(body)} bytes of extended attributes; a tar takes {MAX_EXTENSION}")
    folder, _, file = name.rpartition(b"/")
    shown = normpath(folder + b"/PaxHeaders.0/" + file) if folder else b"PaxHeaders.0/" + file
    shown = shown.translate(None, _DROPPED)[:100].rstrip(b"/")
    block = _block(shown, "x", 0, 0, 0, len(body), 0, b"", None, b"", b"")
    return block + body + _ZEROS[: -len(body) % BLOCK]


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record; its length counts its own digits."""
    if not key or b"=" in key or b"\0" in key:
        raise ContentError(f"{key!r} cannot be the name of a pax record")
    rest = len(key) + len(value) + 3  # space, equals sign, newline
    size = rest + len(str(rest))
    if rest + len(str(size)) != size:
        size = rest + len(str(size))
    return b"%d %b=%b\n" % (size, key, value)


_numbers: dict[tuple[int, int, int], bytes] = {}


def _block(
    name: bytes,
    flag: str,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    link: bytes,
    device: tuple[int, int] | None,
    prefix: bytes,
    owners: bytes,
) -> bytes:
    """One header block of values that fit. With `device` None those fields stay empty, as in Go's pax headers."""
    key = (mode, uid, gid)
    owner = _numbers.get(key)
    if owner is None:
        if not 0 <= mode <= _OCTAL_7:
            raise ContentError(f"{name!r}: mode {mode:o} does not fit in a tar")
        owner = b"%07o\0%07o\0%07o\0" % key
        if len(_numbers) < 4096:  # a tree has few distinct ones; a hostile one must not fill memory
            _numbers[key] = owner
    front = b"%b%b%011o\0%011o\0" % (name.ljust(100, b"\0"), owner, size, mtime)
    middle = _FLAGS[flag] + link.ljust(100, b"\0")
    if device == (0, 0) and not owners and not prefix:
        tail, tail_sum = _PLAIN_TAIL, _PLAIN_TAIL_SUM
    else:
        tail = _tail(name, device, prefix, owners)
        tail_sum = sum(tail)
    # The checksum is the sum of all bytes. Adler-32 begins with just that sum, in C: started from 0, its low half
    # is the sum modulo 65521, and 257 bytes of ASCII (names here always are) stay below.
    total = (adler32(front, 0) & 0xFFFF) + (adler32(middle, 0) & 0xFFFF) + 256 + tail_sum
    return b"%b%06o\0 %b%b" % (front, total, middle, tail)


def _tail(name: bytes, device: tuple[int, int] | None, prefix: bytes, owners: bytes) -> bytes:
    magic = b"ustar\x0000" + (owners or bytes(64))
    if device is None:
        numbers = bytes(16)
    else:
        if not all(0 <= number <= _OCTAL_7 for number in device):
            raise ContentError(f"{name!r}: device {device[0]}:{device[1]} does not fit in a tar")
        numbers = b"%07o\0%07o\0" % device
    return magic + numbers + prefix.ljust(167, b"\0")


_PLAIN_TAIL = _tail(b"", (0, 0), b"", b"")
_PLAIN_TAIL_SUM = sum(_PLAIN_TAIL)
