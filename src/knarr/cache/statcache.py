"""Checksums of a directory's files, remembered by what `stat` says: the same stat means the same content.

The idea is that of git's index. An entry is (device, inode, size, mtime, ctime) →
digest; the kernel moves ctime whenever content, mode, owner or an attribute changes,
and nobody can set it back. One file per directory, read and written whole: a header,
then fixed-size entries (50,000 of them are 3.6 MB and load in about 20 ms).
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from hashlib import sha256
from itertools import islice
from pathlib import Path

_MAGIC = b"knarr.stat.v1\0\0\0"
_HEADER = struct.Struct("<16sQI")  # magic, number of entries, crc32 of the entries
_ENTRY = struct.Struct("40s32s")
_KEY = struct.Struct("<QQqqq")

# A file written after we read it, within one tick of the file system's clock, keeps its stat. So
# what changed less than a tick before we began is not remembered. Kernels tick every 1 to 10 ms;
# file systems without nanoseconds (vfat, some network ones) every 2 s, and show whole milliseconds.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000
_MILLISECOND_NS = 1_000_000

_KEPT = 65536  # entries kept beyond those of this run, when only part of the directory was read


class StatCache:
    """The remembered checksums in the file `path`. Not for more than one thread at a time.

    A file that is missing, torn or of another version is an empty one; saving replaces it whole,
    so that of two builds at once the later one's memory stays.
    """

    def __init__(self, path: Path, *, now_ns: int = 0) -> None:
        self._path = path
        self._began_ns = now_ns or time.time_ns()
        self._old = _load(path)
        self._used: dict[bytes, bytes] = {}
        self._new = 0

    @classmethod
    def for_directory(cls, caches: Path, directory: Path, *, now_ns: int = 0) -> StatCache:
        """The cache of `directory` among all the caches in `caches`."""
        name = sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:32]
        return cls(caches / name, now_ns=now_ns)

    def lookup(self, stat: os.stat_result) -> bytes | None:
        """The 32 bytes that were remembered for a file that looks like `stat`."""
        key = _key(stat)
        found = self._used.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self._used[key] = found
        return found

    def remember(self, stat: os.stat_result, digest: bytes) -> None:
        """Remember 32 bytes for a file whose `stat` was taken before it was read, unless it is too young to tell."""
        changed = stat.st_ctime_ns
        tick = _COARSE_TICK_NS if changed % _MILLISECOND_NS == 0 else _TICK_NS
        if changed + tick < self._began_ns:
            self._used[_key(stat)] = digest
            self._new += 1

    def save(self) -> None:
        """Write what is new, with what was used and, up to a bound, what was there before."""
        if not self._new:
            return
        entries = dict(self._used)
        unused = (item for item in self._old.items() if item[0] not in self._used)
        entries.update(islice(unused, max(_KEPT, len(entries))))
        data = b"".join([part for item in entries.items() for part in item])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with open(temporary, "wb") as file:
                file.write(_HEADER.pack(_MAGIC, len(entries), zlib.crc32(data)))
                file.write(data)
            temporary.replace(self._path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._old, self._new = entries, 0


def _key(stat: os.stat_result) -> bytes:
    return _KEY.pack(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _load(path: Path) -> dict[bytes, bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    if len(content) < _HEADER.size:
        return {}
    magic, count, checksum = _HEADER.unpack_from(content)
    data = memoryview(content)[_HEADER.size :]
    if magic != _MAGIC or len(data) != count * _ENTRY.size or zlib.crc32(data) != checksum:
        return {}
    return dict(_ENTRY.iter_unpack(data))
