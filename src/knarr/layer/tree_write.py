"""Write files of this machine as tar entries: their metadata, content, hard links and attributes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping

from knarr.errors import ContentError
from knarr.layer.samefile import in_layer, kept_xattrs
from knarr.layer.tar import BLOCK, BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, HARDLINK, REGULAR, SYMLINK
from knarr.layer.tar_write import Writer, header
from knarr.streams import CHUNK, Writable

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MTIME = 8  # index of the whole seconds in a stat result; st_mtime is a float and may round up
_NLINK = 3


class TreeWriter:
    """A layer being written. Owners are numbers only: names mean nothing on another machine.

    `max_mtime_s` cuts later times down to it, `mtime_s` takes the place of all
    (SOURCE_DATE_EPOCH, in seconds). `attributes` says which extended attributes
    are written: by default those of layers, with None none.
    """

    def __init__(
        self,
        out: Writable,
        *,
        max_mtime_s: int | None = None,
        mtime_s: int | None = None,
        attributes: Callable[[str], bool] | None = in_layer,
    ) -> None:
        self._tar = Writer(out)
        self._attributes = attributes
        self._max_mtime = max_mtime_s
        self._mtime = mtime_s
        self._links: dict[tuple[int, int], bytes] = {}  # inode → the name it has in this layer
        self._spared: dict[tuple[int, int], list[bytes]] = {}  # inode → names left out because nothing changed

    def close(self) -> None:
        """End the archive. The target stays open."""
        self._tar.close()

    def put(self, raw: bytes) -> None:
        """Write a header made by `directory`."""
        self._tar.put(raw)

    def directory(self, name: str, path: str, status: os.stat_result) -> bytes:
        """The header of a directory, to be written with `put` once it turns out to be needed."""
        kept = kept_xattrs(path, self._attributes) if self._attributes else None
        return self._header(_raw(name) + b"/", DIRECTORY, status, xattrs=kept)

    def whiteout(self, name: str) -> None:
        """An empty file, with no owner, mode or time: as containerd 2 writes them."""
        self._tar.put(header(_raw(name), REGULAR, 0, 0, 0, 0, 0))

    def spare(self, name: str, status: os.stat_result) -> None:
        """Note that `name` did not change. If another name of the same file did, it becomes a link to that."""
        if status.st_nlink > 1:
            self._spared.setdefault((status.st_dev, status.st_ino), []).append(_raw(name))

    def file(self, name: str, path: str, status: os.stat_result) -> None:
        """Write what is at `path`, which is not a directory. Sockets are left out: they mean nothing elsewhere.

        Raises:
            ContentError: the file changes while it is read.
        """
        raw = _raw(name)
        if status[_NLINK] > 1:
            key = (status.st_dev, status.st_ino)
            first = self._links.setdefault(key, raw)
            if first is not raw:
                self._link(raw, first, status)
                return
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._regular(raw, path, status)
        elif stat.S_ISLNK(mode):
            self._tar.put(self._header(raw, SYMLINK, status, link=os.fsencode(os.readlink(path))))
        elif stat.S_ISFIFO(mode):
            self._tar.put(self._header(raw, FIFO, status))
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            self._tar.put(self._header(raw, CHARACTER if stat.S_ISCHR(mode) else BLOCK_DEVICE, status))
        else:
            self._links.pop((status.st_dev, status.st_ino), None)
            return
        if status[_NLINK] > 1:
            for spared in self._spared.pop((status.st_dev, status.st_ino), ()):
                self._link(spared, raw, status)

    def _link(self, name: bytes, first: bytes, status: os.stat_result) -> None:
        self._tar.put(self._header(name, HARDLINK, status, link=first))

    def _regular(self, name: bytes, path: str, status: os.stat_result) -> None:
        size = status.st_size
        descriptor = os.open(path, _OPEN)
        try:
            kept = kept_xattrs(descriptor, self._attributes) if self._attributes else None
            raw = self._header(name, REGULAR, status, size=size, xattrs=kept)
            if size <= CHUNK:
                content = os.read(descriptor, size) if size else b""
                if len(content) != size:
                    raise _changed(path, size, len(content))
                self._tar.put(raw, content)
            else:
                self._large(raw, path, descriptor, size)
        finally:
            os.close(descriptor)

    def _large(self, raw: bytes, path: str, descriptor: int, size: int) -> None:
        self._tar.put(raw)
        left = size
        while left:
            data = os.read(descriptor, min(left, self._tar.room))
            if not data:
                raise _changed(path, size, size - left)
            self._tar.put_raw(data)
            left -= len(data)
        self._tar.put_raw(bytes(-size % BLOCK))

    def _header(
        self,
        name: bytes,
        flag: str,
        status: os.stat_result,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: Mapping[str, bytes] | None = None,
    ) -> bytes:
        mtime = int(status[_MTIME]) if self._mtime is None else self._mtime
        if self._max_mtime is not None and mtime > self._max_mtime:
            mtime = self._max_mtime
        device = status.st_rdev
        return header(
            name,
            flag,
            status.st_mode & 0o7777,
            status.st_uid,
            status.st_gid,
            size,
            mtime,
            link,
            device=(os.major(device), os.minor(device)) if device else (0, 0),
            records={b"SCHILY.xattr." + os.fsencode(key): value for key, value in xattrs.items()} if xattrs else None,
        )


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _changed(path: str, expected: int, got: int) -> ContentError:
    return ContentError(f"{path}: the file changed while it was read: expected {expected} bytes, got {got}")
