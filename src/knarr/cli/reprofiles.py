"""The files of an image without unpacking them, and how those of two images differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from knarr.content.target import Fetcher
from knarr.layer.decompress import open_compressed
from knarr.layer.tar import DIRECTORY, HARDLINK, REGULAR, Entry
from knarr.layer.tar_read import Reader
from knarr.record import record, replace
from knarr.spec.manifest import Manifest

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@record
class File:
    """One file: its kind (as in a tar), and what can differ. `content` is the sha256 of a regular file."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_s: int
    link: str = ""
    content: str = ""
    device: tuple[int, int] = (0, 0)


@record
class Difference:
    """What is different about a path: `missing` (of the second), `new`, or the words for what changed."""

    path: str
    what: str


def files(place: Fetcher, manifest: Manifest) -> dict[str, File]:
    """Every path of an image as its layers leave it.

    Raises:
        LayerInvalid: a layer is damaged; ContentError, RegistryError: it cannot be had.
    """
    found: dict[str, File] = {}
    for layer in manifest.layers:
        with place.open(layer) as stream:
            _lay(found, list(_entries(Reader(open_compressed(stream)))))
    return found


def differences(first: Mapping[str, File], second: Mapping[str, File], *, times: bool) -> Iterator[Difference]:
    """What `second` has otherwise than `first`, in the order of paths. With `times` those of files count, too."""
    for path in sorted({*first, *second}):
        one, other = first.get(path), second.get(path)
        if other is None:
            yield Difference(path, "missing")
        elif one is None:
            yield Difference(path, "new")
        else:
            words = list(_changed(one, other, times=times))
            if words:
                yield Difference(path, ", ".join(words))


def config_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    """Members of two image configs that differ, but for times and layers."""
    for key in ("architecture", "os", "variant"):
        if first.get(key) != second.get(key):
            yield key
    one, other = first.get("config") or {}, second.get("config") or {}
    for key in sorted({*one, *other}):
        if one.get(key) != other.get(key):
            yield f"config.{key}"


def _changed(one: File, other: File, *, times: bool) -> Iterator[str]:
    if one.type != other.type:
        yield "another kind of file"
        return
    if one.content != other.content:
        yield f"content ({one.size} and {other.size} bytes)"
    if one.mode != other.mode:
        yield f"mode ({one.mode:o} and {other.mode:o})"
    if (one.uid, one.gid) != (other.uid, other.gid):
        yield f"owner ({one.uid}:{one.gid} and {other.uid}:{other.gid})"
    if one.link != other.link:
        yield f"link (to {one.link} and to {other.link})"
    if one.device != other.device:
        yield "device"
    if times and one.mtime_s != other.mtime_s:
        yield "time"


def _entries(reader: Reader) -> Iterator[tuple[Entry, str]]:
    for entry in reader:
        content = ""
        if entry.type == REGULAR:
            digest = hashlib.sha256()
            for data in reader.content():
                digest.update(data)
            content = digest.hexdigest()
        yield entry, content


def _lay(found: dict[str, File], layer: list[tuple[Entry, str]]) -> None:
    """Lay one layer over what is there: whiteouts first, which never touch entries of their own layer."""
    for entry, _ in layer:
        directory, _, name = _clean(entry.name).rpartition("/")
        if name == _OPAQUE:
            _remove(found, directory, itself=False)
        elif name.startswith(_WHITEOUT):
            _remove(found, f"{directory}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
    for entry, content in layer:
        path = _clean(entry.name)
        if not path or path.rpartition("/")[2].startswith(_WHITEOUT):
            continue
        if entry.type == HARDLINK:
            target = found.get(_clean(entry.linkname))
            if target is not None:
                found[path] = replace(target)
            continue
        if entry.type != DIRECTORY:
            _remove(found, path)
        found[path] = File(
            entry.type,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.mtime_ns // 10**9,
            entry.linkname,
            content,
            (entry.devmajor, entry.devminor),
        )


def _remove(found: dict[str, File], path: str, *, itself: bool = True) -> None:
    known = found.pop(path, None) if itself else None
    if known is None or known.type == DIRECTORY:
        for below in [name for name in found if name.startswith(f"{path}/" if path else "")]:
            del found[below]


def _clean(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))
