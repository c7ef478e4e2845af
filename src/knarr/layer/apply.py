"""Unpack a layer over a tree, and nowhere else.

Every name is resolved inside the root as if it were `/`: one that climbs above it
is refused, a symlink in the middle of a path is followed inside, the last part of
a path is never followed. Resolving happens once per directory and not once per file.

Whiteouts hide what lower layers left and never what this layer brings,
whichever comes first in the tar (image-spec v1.1, layer.md, "Whiteouts"). To
tell the two apart the names this layer has made are remembered, by directory:
the one thing here that grows with the number of entries.

    with store.open(descriptor) as stream:
        diff_id = apply(open_compressed(stream), root)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from knarr import disk, virtual
from knarr.errors import ContentError, LayerInvalid
from knarr.layer.parents import Parent, Parents
from knarr.layer.relay import ReadAhead, WriteBehind
from knarr.layer.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
)
from knarr.layer.tar_read import Reader
from knarr.layer.whiteout import OPAQUE, PREFIX, hidden_by
from knarr.spec.digest import Digest
from knarr.streams import HashingWriter, Readable, Writable

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_ODD = frozenset(("", ".", ".."))  # parts of a path that name nothing of their own
_NODES = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}


def apply(stream: Readable, root: Path, *, check: Callable[[], None] | None = None) -> Digest:
    """Unpack one uncompressed layer tar over the tree at `root` and return its diffID.

    `stream` is read to its end, by another thread and somewhat ahead. `root`
    must exist, and nobody else may change it meanwhile. `check` runs per entry
    and per chunk (cancellation). On failure `root` is left half written.

    Raises:
        LayerInvalid: the tar is malformed, or an entry cannot be made where it says.
        ContentError: the disk is full or broken.
    """
    diff = HashingWriter()
    with ReadAhead(stream) as ahead, WriteBehind(diff) as hashing:
        reader = Reader(_Teed(ahead, hashing))
        _Unpacking(reader, Parents(os.fspath(root)), check).run()
        reader.drain()
    return diff.digest


def unpack_archive(
    stream: Readable, root: Path, *, owner: tuple[int, int] | None = None, check: Callable[[], None] | None = None
) -> None:
    """Unpack a tar that is no layer: names that look like whiteouts are files, `owner` replaces all owners.

    Otherwise like `apply`, and as safe. Used for ADD of an archive.

    Raises:
        LayerInvalid, ContentError: see `apply`.
    """
    with ReadAhead(stream) as ahead:
        reader = Reader(ahead)
        _Unpacking(reader, Parents(os.fspath(root)), check, owner=owner, whiteouts=False).run()
        reader.drain()


class _Teed:
    """A reader that gives what passes to a writer as well."""

    def __init__(self, source: Readable, copy: Writable) -> None:
        self._source = source
        self._copy = copy

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        if data:
            self._copy.write(data)
        return data


class _Unpacking:
    def __init__(
        self,
        reader: Reader,
        parents: Parents,
        check: Callable[[], None] | None,
        *,
        owner: tuple[int, int] | None = None,
        whiteouts: bool = True,
    ) -> None:
        self._reader = reader
        self._parents = parents
        self._check = check
        self._owner = owner
        self._whiteouts = whiteouts

    def run(self) -> None:
        for entry in self._reader:
            if self._check is not None:
                self._check()
            if self._owner is not None:
                entry = entry._replace(uid=self._owner[0], gid=self._owner[1])
            try:
                self._entry(entry)
            except OSError as error:
                raise _failure(entry, error) from error
        self._parents.set_times()

    def _entry(self, entry: Entry) -> None:
        folder, name = _split(entry.name)
        if not name:
            if entry.type != DIRECTORY:
                raise LayerInvalid(f"{entry.name!r}: only a directory can stand for the root")
            return  # containerd and BuildKit leave the root directory as it is, too
        if self._whiteouts and name.startswith(PREFIX):
            self._whiteout(folder, name)
            return
        parent = self._parents.get(folder)
        kind = entry.type
        if kind == REGULAR:
            self._regular(entry, parent, name)
        elif kind == DIRECTORY:
            self._directory(entry, parent, name)
        elif kind == HARDLINK:
            self._hardlink(entry, parent, name)
        else:
            self._special(entry, parent, name)
        parent.made.add(name)

    def _whiteout(self, folder: str, name: str) -> None:
        hidden = None if name == OPAQUE else hidden_by(name)
        parent = self._parents.find(folder)
        if parent is None:
            return  # nothing is there to be hidden
        if hidden is None:
            self._parents.clear_lower(parent)
        else:
            self._parents.hide(parent, hidden)

    def _regular(self, entry: Entry, parent: Parent, name: str) -> None:
        path = parent.path + name
        try:
            fd = os.open(path, _CREATE, 0o600)
        except FileExistsError:
            fd = self._parents.place(parent, name, lambda: os.open(path, _CREATE, 0o600))
        try:
            left = entry.size
            while left:
                data = self._reader.read()
                left -= len(data)
                _write(fd, data)
                if left and self._check is not None:
                    self._check()
            virtual.chown(fd, entry.uid, entry.gid)
            virtual.chmod(fd, entry.mode)  # after chown, which takes set-uid away
            for key, value in entry.xattrs.items():
                _set_xattr(fd, key, value)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, parent: Parent, name: str) -> None:
        path = parent.path + name
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                self._parents.place(parent, name, lambda: os.mkdir(path, 0o700))
        _finish(entry, path)
        # Directory times go last, deepest first: making a child moves its parent's time, and the next diff would
        # then ship a directory that nobody changed.
        self._parents.times[f"{parent.where}{name}/"] = entry.mtime_ns

    def _special(self, entry: Entry, parent: Parent, name: str) -> None:
        path = parent.path + name
        if entry.type == SYMLINK:
            self._parents.place(parent, name, lambda: os.symlink(entry.linkname, path))
        else:
            device = os.makedev(entry.devmajor, entry.devminor) if entry.type != FIFO else 0
            self._parents.place(parent, name, lambda: virtual.mknod(path, _NODES[entry.type] | 0o600, device))
        _finish(entry, path)

    def _hardlink(self, entry: Entry, parent: Parent, name: str) -> None:
        folder, target = _split(entry.linkname)
        other = self._parents.find(folder) if target else None
        source = other.path + target if other is not None else ""
        if other is None or not os.path.lexists(source):
            raise LayerInvalid(f"{entry.name}: a hard link to {entry.linkname!r}, which does not exist")
        path = parent.path + name
        if source == path:
            return  # a link to itself: some tools write one, and it changes nothing
        # A link to a symlink is a link to the symlink itself, as in containerd. Owner, mode and times are the file's.
        self._parents.place(parent, name, lambda: os.link(source, path, follow_symlinks=False))


def _split(name: str) -> tuple[str, str]:
    """Folder and last part of an entry's name, cleaned as text; both empty for the root.

    Raises:
        LayerInvalid: the name climbs above the root. No tool writes such a name by accident.
    """
    folder, _, last = name.rpartition("/")
    if last and last not in _ODD and not _has_odd_part(folder):
        return folder, last
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                raise LayerInvalid(f"{name}: the name leads out of the root")
            parts.pop()
        elif part not in _ODD:
            parts.append(part)
    return ("/".join(parts[:-1]), parts[-1]) if parts else ("", "")


@lru_cache(maxsize=256)
def _has_odd_part(folder: str) -> bool:
    return bool(folder) and any(part in _ODD for part in folder.split("/"))


def _finish(entry: Entry, path: str) -> None:
    """Owner, mode, attributes and time of what was just made at `path` and is not open."""
    virtual.chown(path, entry.uid, entry.gid)
    if entry.type != SYMLINK:
        virtual.chmod(path, entry.mode)
    for key, value in entry.xattrs.items():
        _set_xattr(path, key, value)
    os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def _set_xattr(file: int | str, key: str, value: bytes) -> None:
    """Set an attribute, unless it is one of this machine's own or this file system has no such thing."""
    if key.startswith(("trusted.", "user.overlay.")) or key == virtual.NOTE:
        return  # they would speak to overlayfs and to us, not to the image
    try:
        os.setxattr(file, key, value, follow_symlinks=isinstance(file, int))
    except OSError as error:
        # containerd ignores both as well: user.* on special files and symlinks, and file systems without attributes.
        if error.errno == errno.ENOTSUP or (error.errno == errno.EPERM and key.startswith("user.")):
            return
        raise


def _failure(entry: Entry, error: OSError) -> ContentError:
    if disk.lacks_room(error):
        return ContentError("no space left on the disk to unpack a layer", hint=disk.ROOM)
    if error.errno == errno.EIO:
        return ContentError(f"{entry.name}: the disk fails: {error.strerror}")
    hint = ""
    if error.errno == errno.EINVAL and os.geteuid() == 0:
        hint = f"the owner {entry.uid}:{entry.gid} may not exist in this user namespace: see /etc/subuid"
    elif error.errno == errno.EPERM:
        hint = "unpacking owners and devices needs root, or a user namespace that has them"
    return LayerInvalid(f"{entry.name}: {error.strerror}", hint=hint)
