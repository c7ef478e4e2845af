"""Open a tar of images, an OCI layout or Docker's `save` format, as a source to copy from.

    with open("app.tar", "rb") as file:
        archive = open_archive(file)
        for image in archive.images:
            copy_graph(archive, store, image.descriptor, scope=scope)

Nothing is unpacked: members are read where they lie, by several threads if need
be. The file must be seekable and not compressed; `cli.load` sees to that.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from knarr.errors import ContentError, NotFound
from knarr.image import dockerarchive
from knarr.image.layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    blob_path,
    check_layout_version,
    decode_layout_index,
    name_of,
    named,
)
from knarr.image.listed import images_in
from knarr.image.save import NamedImage
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, HashingReader, Readable, VerifiedReader, chunks

_MAX_JSON_BYTES = 20 * 2**20  # containerd's limit for the documents of an archive
_MAX_LINKS = 16


ReadAt = Callable[[int, int], bytes]
"""Gives (size, offset) of a file, without moving its position."""


class Section:
    """A stretch of a file, read without moving the file's position: many may be read at once."""

    def __init__(self, read_at: ReadAt, start: int, size: int) -> None:
        self._read_at, self._at, self._end = read_at, start, start + size

    def read(self, size: int = -1, /) -> bytes:
        rest = self._end - self._at
        data = self._read_at(rest if size < 0 else min(size, rest), self._at)
        self._at += len(data)
        return data


@record
class _Place:
    start: int
    size: int


class Archive:
    """The images of an archive, and a `Fetcher` of their content. Valid while its file is open."""

    def __init__(
        self,
        tar: _TarIndex,
        images: tuple[NamedImage, ...],
        places: dict[Digest, str],
        made: Made,
        entries: tuple[Descriptor, ...],
    ) -> None:
        self.images = images
        self.entries = entries  # as an OCI layout's index lists them
        self._tar = tar
        self._places = places
        self._made = made

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        made = self._made.get(descriptor.digest)
        if made is not None:
            yield VerifiedReader(io.BytesIO(made), descriptor.digest, descriptor.size)
            return
        section = self._tar.open(self._places.get(descriptor.digest, blob_path(descriptor.digest)))
        if section is None:
            raise NotFound(f"{descriptor.digest} is not in the archive")
        yield VerifiedReader(section, descriptor.digest, descriptor.size)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the archive has the content (an index in it may name platforms that were left out)."""
        digest = descriptor.digest
        return digest in self._made or self._tar.open(self._places.get(digest, blob_path(digest))) is not None


Made = dict[Digest, bytes]  # documents that are not in the archive but follow from it


def open_archive(file: BinaryIO) -> Archive:
    """Read the table of contents of an archive: a file, or something like one that has `read_at`.

    Raises:
        ContentError: not a tar, or a tar of something else.
    """
    tar = _TarIndex(file)
    version = tar.read(LAYOUT_FILE)
    if version is not None:
        check_layout_version(version)
        index = tar.read(INDEX_FILE)
        if index is None:
            raise ContentError(f"the archive is an OCI layout without {INDEX_FILE}")
        entries = decode_layout_index(index)
        return Archive(tar, images_of_layout(entries), {}, {}, entries)
    manifests = tar.read(dockerarchive.MANIFEST_FILE)
    if manifests is None:
        raise ContentError(
            f"the archive has neither {LAYOUT_FILE} nor {dockerarchive.MANIFEST_FILE}: it is not an image archive",
            hint="a file system tar becomes an image with FROM scratch and ADD",
        )
    return _docker(tar, manifests)


def images_of_layout(entries: tuple[Descriptor, ...]) -> tuple[NamedImage, ...]:
    """The images that the entries of a layout's index list, each once with all its names."""
    names: dict[Digest, list[str]] = {}
    first: dict[Digest, Descriptor] = {}
    for entry in images_in(entries):
        first.setdefault(entry.digest, entry)
        names.setdefault(entry.digest, []).extend(filter(None, (name_of(entry),)))
    return tuple(NamedImage(first[digest].bare(), tuple(dict.fromkeys(found))) for digest, found in names.items())


def _docker(tar: _TarIndex, raw: bytes) -> Archive:
    images: list[NamedImage] = []
    places: dict[Digest, str] = {}
    made: Made = {}
    for entry in dockerarchive.decode(raw):
        config = tar.read(entry.config)
        if config is None:
            raise ContentError(f"{dockerarchive.MANIFEST_FILE} names {entry.config}, which is not in the archive")
        manifest, layers = dockerarchive.manifest_of(entry, config, tar.member)
        places.update(layers)
        made[manifest.config.digest] = config
        made[manifest.descriptor.digest] = manifest.raw
        images.append(NamedImage(manifest.descriptor, entry.names))
    entries = tuple(named(image.descriptor, name) for image in images for name in image.names or ("",))
    return Archive(tar, tuple(images), places, made, entries)


class _TarIndex:
    """Where in a tar its regular files lie; links between members are followed."""

    def __init__(self, file: BinaryIO) -> None:
        own: ReadAt | None = getattr(file, "read_at", None)
        self._read_at = own or partial(_pread, file.fileno())
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar:
                    self._note(info)
        except tarfile.TarError as error:
            raise ContentError(f"the archive is not a whole tar: {error}") from error

    def _note(self, info: tarfile.TarInfo) -> None:
        name = _clean(info.name)
        if info.isreg() and not info.issparse():
            self._places[name] = _Place(info.offset_data, info.size)
        elif info.issym():
            self._links[name] = _clean(posixpath.join(posixpath.dirname(name), info.linkname))
        elif info.islnk():
            self._links[name] = _clean(info.linkname)

    def open(self, name: str) -> Section | None:
        place = self._find(name)
        return Section(self._read_at, place.start, place.size) if place is not None else None

    def read(self, name: str) -> bytes | None:
        """The content of a small member.

        Raises:
            ContentError: it is too large to be a document.
        """
        place = self._find(name)
        if place is None:
            return None
        if place.size > _MAX_JSON_BYTES:
            raise ContentError(f"{name} in the archive has {place.size} bytes, over the limit of {_MAX_JSON_BYTES}")
        return Section(self._read_at, place.start, place.size).read()

    def member(self, name: str) -> dockerarchive.Member:
        place = self._find(name)
        if place is None:
            raise ContentError(f"{dockerarchive.MANIFEST_FILE} names {name}, which is not in the archive")
        start, size = place.start, place.size

        def digest() -> Digest:
            reader = HashingReader(Section(self._read_at, start, size))
            for _ in chunks(reader, CHUNK):
                pass
            return reader.digest

        return dockerarchive.Member(size, Section(self._read_at, start, size).read(4), digest)

    def _find(self, name: str) -> _Place | None:
        name = _clean(name)
        for _ in range(_MAX_LINKS):
            place = self._places.get(name)
            if place is not None or name not in self._links:
                return place
            name = self._links[name]
        return None


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    return os.pread(descriptor, size, offset)


def _clean(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")
