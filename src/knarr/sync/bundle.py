"""Bundles on disk: volumes beside a list that says what they are, written last.

    app.bundle.000, app.bundle.001, …     the stream, cut
    app.bundle.json                       volumes with sizes and checksums, images, blobs

`cat app.bundle.0*` is the tar of an OCI layout, for whoever has no knarr. While a
bundle is made, `app.bundle.making` notes the volumes that are finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import file_digest, sha256
from io import RawIOBase
from typing import Any, cast

from knarr.content.target import Fetcher
from knarr.errors import ContentError, KnarrError, NotFound, UsageError
from knarr.image.copy import MOVING, PRESENT, Watch
from knarr.record import record
from knarr.scope import Scope
from knarr.streams import CHUNK, Readable
from knarr.sync.bundleplan import BundlePlan, Piece
from knarr.sync.inventory import Inventory

LIST_ENDING = ".bundle.json"


@record
class Volume:
    """One file of a bundle, in the directory of its list."""

    name: str
    size: int
    digest: str  # sha256 as hex


def create(
    plan: BundlePlan,
    source: Callable[[Piece], Fetcher],
    prefix: str,
    inventory: Inventory,
    *,
    volume_size: int,
    scope: Scope,
    watch: Watch | None = None,
) -> tuple[Volume, ...]:
    """Write `PREFIX.bundle.*`; what an interrupted try has finished of the same bundle stays.

    `inventory` is what the far side has when it is loaded, and goes into the list.
    `source` gives the place that has a blob.

    Raises:
        KnarrError: a file cannot be written, or a blob not be read; finished volumes stay.
    """
    making = _Making(f"{prefix}.bundle.making", f"{plan.fingerprint} {volume_size}")
    volumes = []
    try:
        os.makedirs(os.path.dirname(prefix) or ".", exist_ok=True)
        for number, (start, length) in enumerate(plan.volumes(volume_size)):
            path = f"{prefix}.bundle.{number:03}"
            done = making.finished(path, length)
            if done is None:
                done = Volume(os.path.basename(path), length, _write(plan, source, path, start, length, scope, watch))
                making.note(done)
            volumes.append(done)
        data = {
            **inventory.to_json(),
            "bundle": 1,
            "volumes": [{"name": v.name, "size": v.size, "sha256": v.digest} for v in volumes],
            "assumed": [str(digest) for digest in plan.assumed],
        }
        _replace(prefix + LIST_ENDING, json.dumps(data, indent=1).encode())
        making.close()
    except OSError as error:
        raise KnarrError(f"{error.filename or prefix}: {error.strerror}") from error
    return tuple(volumes)


def _write(
    plan: BundlePlan,
    source: Callable[[Piece], Fetcher],
    path: str,
    start: int,
    length: int,
    scope: Scope,
    watch: Watch | None,
) -> str:
    """One volume, which appears when it is complete; its checksum."""
    summed = sha256()
    partial = f"{path}.part"
    try:
        with open(partial, "wb", buffering=0) as file:
            for piece, first, last in plan.within(start, length):
                for data in _part(piece, first, last, source, watch):
                    scope.check()
                    file.write(data)
                    summed.update(data)
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise
    return summed.hexdigest()


def _part(
    piece: Piece, first: int, last: int, source: Callable[[Piece], Fetcher], watch: Watch | None
) -> Iterator[bytes]:
    if piece.blob is None:
        assert piece.data is not None
        yield piece.data[first:last]
        return
    with source(piece).open(piece.blob) as stream:
        at = _skip(stream, first)
        while at < last:
            data = stream.read(min(CHUNK, last - at))
            if not data:
                raise ContentError(f"{piece.blob.digest}: expected {piece.blob.size} bytes, got {at}")
            at += len(data)
            if at == piece.size and stream.read(1):  # to its end, where the stream checks its digest
                raise ContentError(f"{piece.blob.digest}: expected {piece.blob.size} bytes, got more")
            yield data
            if watch is not None:
                watch(piece.blob, at, MOVING if at < piece.size else PRESENT)


def _skip(stream: Readable, offset: int) -> int:
    seekable = getattr(stream, "seekable", None)
    if offset and seekable is not None and seekable():
        cast(Any, stream).seek(offset)
        return offset
    at = 0
    while at < offset:
        at += len(stream.read(min(CHUNK, offset - at))) or offset
    return offset


class _Making:
    """The note about a bundle in the making."""

    def __init__(self, path: str, fingerprint: str) -> None:
        self._path = path
        self._known: dict[str, Volume] = {}
        self._fingerprint = fingerprint
        try:
            with open(path, encoding="utf-8") as file:
                first, *rest = file.read().splitlines()
        except (OSError, ValueError):
            return
        if first == fingerprint:
            for line in rest:
                name, size, digest = line.split("\t")
                self._known[name] = Volume(name, int(size), digest)

    def finished(self, path: str, size: int) -> Volume | None:
        """The volume at `path`, if an earlier try of this bundle has made it."""
        known = self._known.get(os.path.basename(path))
        try:
            whole = known is not None and known.size == size == os.path.getsize(path)
        except OSError:
            return None
        return known if whole else None

    def note(self, volume: Volume) -> None:
        self._known[volume.name] = volume
        lines = [self._fingerprint, *(f"{v.name}\t{v.size}\t{v.digest}" for v in self._known.values())]
        _replace(self._path, "\n".join(lines).encode())

    def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._path)


def _replace(path: str, data: bytes) -> None:
    with open(f"{path}.part", "wb") as file:
        file.write(data)
    os.replace(f"{path}.part", path)


@record
class BundleList:
    """The list of a bundle as it was read."""

    path: str
    volumes: tuple[Volume, ...]
    assumed: frozenset[str]


def read_list(path: str) -> BundleList:
    """The list at `path`: the `.json` of a bundle, or its prefix.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    if not path.endswith(".json") and os.path.exists(path + LIST_ENDING):
        path += LIST_ENDING
    try:
        with open(path, "rb") as file:
            data: Any = json.loads(file.read(512 << 20))
        if data["bundle"] != 1:
            raise UsageError(f"{path}: version {data['bundle']!r} of bundles is not known")
        volumes = tuple(
            Volume(os.path.basename(str(v["name"])), int(v["size"]), str(v["sha256"])) for v in data["volumes"]
        )
        return BundleList(path, volumes, frozenset(map(str, data["assumed"])))
    except OSError as error:
        hint = f"a bundle that is not finished has no {LIST_ENDING} yet: run `knarr bundle create` again"
        raise UsageError(f"{path}: {error.strerror}", hint=hint) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is not the list of a bundle") from error


def check(bundle: BundleList, scope: Scope) -> None:
    """Hash every volume.

    Raises:
        NotFound: one is missing; ContentError: one is damaged. All of them are named.
    """
    directory = os.path.dirname(bundle.path)
    missing, damaged = [], []
    for volume in bundle.volumes:
        scope.check()
        path = os.path.join(directory, volume.name)
        try:
            with open(path, "rb") as file:
                whole = os.fstat(file.fileno()).st_size == volume.size
                if not whole or file_digest(file, "sha256").hexdigest() != volume.digest:
                    damaged.append(volume.name)
        except FileNotFoundError:
            missing.append(volume.name)
    if missing:
        raise NotFound(f"{bundle.path}: there is no {', '.join(missing)}", hint="bring all volumes into one directory")
    if damaged:
        raise ContentError(f"{bundle.path}: damaged: {', '.join(damaged)}", hint="copy those volumes once more")


class Joined(RawIOBase):
    """The volumes of a bundle read as one file. Close it."""

    def __init__(self, bundle: BundleList) -> None:
        directory = os.path.dirname(bundle.path)
        self._at = 0
        self._files: list[tuple[int, int, int]] = []  # start, end, descriptor
        end = 0
        for volume in bundle.volumes:
            descriptor = os.open(os.path.join(directory, volume.name), os.O_RDONLY | os.O_CLOEXEC)
            self._files.append((end, end + volume.size, descriptor))
            end += volume.size
        self._end = end

    def read_at(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from `offset` on; from any thread."""
        for start, end, descriptor in self._files:
            if start <= offset < end:
                return os.pread(descriptor, min(size, end - offset), offset - start)
        return b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read_at(len(buffer), self._at)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        for _, _, descriptor in self._files:
            os.close(descriptor)
        self._files = []
        super().close()
