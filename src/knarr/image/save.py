"""Write images into one tar that docker, containerd, skopeo and podman load: an OCI layout, perhaps with
Docker's `manifest.json` beside it.

The tar is a function of the images and their names: entries sorted by path, no
times, no owners. Blobs stream straight from the source, each of them once.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import BytesIO

from knarr.content.target import Fetcher
from knarr.errors import NotFound
from knarr.image.closure import Closure
from knarr.image.copy import MOVING, PRESENT, Watch
from knarr.image.dockerarchive import MANIFEST_FILE, encode
from knarr.image.layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_VERSION, REF_NAME, blob_path, encode_layout_index, named
from knarr.image.select import images_of, match
from knarr.image.successors import is_document, read_document
from knarr.record import record
from knarr.scope import Scope
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest, encode_index
from knarr.spec.platform import Platform
from knarr.spec.referrers import fallback_tag
from knarr.streams import CHUNK, Readable, Writable

Has = Callable[[Descriptor], bool]


@record
class NamedImage:
    """An image and the full names it has (none: it is listed by digest only)."""

    descriptor: Descriptor
    names: tuple[str, ...] = ()


def save(
    out: Writable,
    source: Fetcher,
    images: Sequence[NamedImage],
    *,
    scope: Scope,
    docker_platform: Platform | None = None,
    has: Has | None = None,
    watch: Watch | None = None,
) -> None:
    """Write `images` to `out`.

    With `docker_platform` the archive also has Docker's `manifest.json`, in which
    an index stands for its image of that platform (or else its first one). `has`
    says what the source has, when it may lack platforms: an index stays whole,
    and images of it that are not there whole are left out.

    Raises:
        NotFound: a blob is missing, or of an image nothing is there.
    """
    blobs: dict[str, Descriptor] = {}
    docker: dict[Digest, tuple[Manifest, list[str]]] = {}
    for image in images:
        _collect(source, image.descriptor, has, blobs)
        if docker_platform is not None:
            chosen = _docker_choice(source, image.descriptor, docker_platform, blobs)
            if chosen is not None:
                docker.setdefault(chosen.descriptor.digest, (chosen, []))[1].extend(image.names)
    entries = [named(image.descriptor, name) for image in images for name in image.names or ("",)]
    files = {LAYOUT_FILE: LAYOUT_VERSION, INDEX_FILE: encode_layout_index(entries)}
    if docker:
        files[MANIFEST_FILE] = encode(docker.values())
    _write(_Tar(out), source, files, blobs, scope, watch)


def save_closure(
    out: Writable,
    source: Fetcher,
    closure: Closure,
    *,
    scope: Scope,
    tag: str = "",
    names: Sequence[str] = (),
    docker_platform: Platform | None = None,
    watch: Watch | None = None,
) -> None:
    """Write everything that belongs to an image to `out`; lists of referrers and digest tags have entries of their own.

    The image is called `tag`, and by each of the full `names`. `docker_platform` as in `save`.

    Raises:
        NotFound: a blob is missing at the source.
    """
    known = _Documents(source, {digest: node.raw for digest, node in closure.nodes.items()})
    blobs = {blob_path(blob.digest): blob for blob in closure.blobs}
    blobs.update((blob_path(digest), node.document.descriptor.bare()) for digest, node in closure.nodes.items())
    entries = [named(closure.root.bare(), name) for name in names]
    if tag or not entries:
        entries.append(closure.root.bare().with_annotations({REF_NAME: tag} if tag else {}))
    for ending, digest in closure.digest_tags.items():
        entries.append(closure.nodes[digest].document.descriptor.bare().with_annotations({REF_NAME: ending}))
    for subject, listed in closure.referrers.items():
        index = encode_index([entry for entry in listed if entry.digest in closure.nodes])
        known.add(index)
        blobs[blob_path(index.descriptor.digest)] = index.descriptor.bare()
        entries.append(index.descriptor.bare().with_annotations({REF_NAME: fallback_tag(subject)}))
    files = {LAYOUT_FILE: LAYOUT_VERSION, INDEX_FILE: encode_layout_index(entries)}
    if docker_platform is not None:
        chosen = _docker_choice(known, closure.root, docker_platform, blobs)
        if chosen is not None:
            files[MANIFEST_FILE] = encode([(chosen, names)])
    _write(_Tar(out), known, files, blobs, scope, watch)


class _Documents:
    """A source, and documents that are in memory already."""

    def __init__(self, source: Fetcher, raw: dict[Digest, bytes]) -> None:
        self._source, self._raw = source, raw

    def add(self, document: Index) -> None:
        self._raw[document.descriptor.digest] = document.raw

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        raw = self._raw.get(descriptor.digest)
        return self._source.open(descriptor) if raw is None else nullcontext(BytesIO(raw))


def _collect(source: Fetcher, root: Descriptor, has: Has | None, into: dict[str, Descriptor]) -> None:
    """Add the blobs of `root` that belong into the archive, by path."""
    if has is not None and not has(root):
        raise NotFound(f"{root.digest} is not here")
    document = read_document(source, root)
    into[blob_path(root.digest)] = root
    if isinstance(document, Manifest):
        into.update((blob_path(child.digest), child) for child in document.successors)
        return
    whole = [entry for entry in document.manifests if has is None or _is_whole(source, entry, has)]
    if not any(entry in whole for entry in images_of(document)):
        raise NotFound(f"nothing of {root.digest} is here but its index", hint="pull a platform of it first")
    for entry in whole:
        if is_document(entry.media_type):
            _collect(source, entry, None, into)
        else:
            into[blob_path(entry.digest)] = entry


def _is_whole(source: Fetcher, descriptor: Descriptor, has: Has) -> bool:
    if not has(descriptor):
        return False
    if not is_document(descriptor.media_type):
        return True
    return all(_is_whole(source, child, has) for child in read_document(source, descriptor).successors)


def _docker_choice(source: Fetcher, root: Descriptor, platform: Platform, blobs: Iterable[str]) -> Manifest | None:
    document = read_document(source, root)
    if isinstance(document, Index):
        there = [entry for entry in images_of(document) if blob_path(entry.digest) in blobs]
        best = match(document, platform)
        chosen = best if best in there else next(iter(there), None)
        document = read_document(source, chosen) if chosen is not None else document
    return document if isinstance(document, Manifest) else None


def _write(
    tar: _Tar, source: Fetcher, files: dict[str, bytes], blobs: dict[str, Descriptor], scope: Scope, watch: Watch | None
) -> None:
    folders = {"blobs/"} | {f"blobs/{blob.digest.algorithm}/" for blob in blobs.values()}
    for name in sorted((*folders, *files, *blobs)):
        scope.check()
        if name in folders:
            tar.folder(name)
        elif name in files:
            # containerd's modes, so that an unpacked archive looks the same: blobs and the version are for ever
            tar.file(name, files[name], mode=0o444 if name == LAYOUT_FILE else 0o644)
        else:
            _write_blob(tar, name, source, blobs[name], scope, watch)
    tar.end()


def _write_blob(tar: _Tar, name: str, source: Fetcher, blob: Descriptor, scope: Scope, watch: Watch | None) -> None:
    tar.header(name, blob.size, mode=0o444)
    done = 0
    with source.open(blob) as stream:
        while data := stream.read(CHUNK):
            scope.check()
            tar.out.write(data)
            done += len(data)
            if watch is not None:
                watch(blob, done, MOVING)
    tar.pad(blob.size)
    if watch is not None:
        watch(blob, done, PRESENT)


class _Tar:
    """The least of a tar writer: no times, no owners, nothing buffered."""

    def __init__(self, out: Writable) -> None:
        self.out = out

    def folder(self, name: str) -> None:
        self.header(name, 0, mode=0o755, type=tarfile.DIRTYPE)

    def file(self, name: str, data: bytes, *, mode: int) -> None:
        self.header(name, len(data), mode=mode)
        self.out.write(data)
        self.pad(len(data))

    def header(self, name: str, size: int, *, mode: int, type: bytes = tarfile.REGTYPE) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.type = size, mode, type
        # PAX only differs from ustar for a blob of 8 GiB and more.
        self.out.write(info.tobuf(tarfile.PAX_FORMAT))

    def pad(self, size: int) -> None:
        self.out.write(bytes(-size % tarfile.BLOCKSIZE))

    def end(self) -> None:
        self.out.write(bytes(2 * tarfile.BLOCKSIZE))
