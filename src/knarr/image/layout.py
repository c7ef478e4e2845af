"""The OCI image layout: a directory (or a tar, see `save` and `load`) that holds images.

`Layout` is a whole `Target` on a directory. Blobs appear by rename, complete and
read-only; `index.json` is replaced by rename, last. Images are named as containerd
does: the full name in one annotation, its tag in the one that OCI defines.

Spec: image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from knarr.content.target import Report
from knarr.errors import ContentError, NotFound
from knarr.record import replace
from knarr.spec import gojson, mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, decode
from knarr.spec.reference import Reference
from knarr.streams import CHUNK, Readable, VerifiedReader

LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
LAYOUT_VERSION = b'{"imageLayoutVersion":"1.0.0"}'
IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
CREATED = "org.opencontainers.image.created"
_MAX_INDEX_BYTES = 64 * 2**20  # a layout may list very many images; still nothing to fill memory with


def blob_path(digest: Digest) -> str:
    """Where a blob is, below the layout's root."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def named(descriptor: Descriptor, name: str) -> Descriptor:
    """An entry of a layout's index for `descriptor` under a full image name (`""`: none)."""
    if not name:
        return descriptor
    reference = Reference.parse(name)
    # OCI wants the tag alone; a name without one is repeated, as containerd does.
    return descriptor.with_annotations({IMAGE_NAME: name, REF_NAME: reference.tag or name})


def name_of(entry: Descriptor) -> str:
    """The full image name an entry of a layout's index carries, or `""`."""
    name = entry.annotations.get(IMAGE_NAME, "")
    if name:
        return name
    # skopeo and podman write a whole reference here; a bare tag names nothing by itself.
    short = entry.annotations.get(REF_NAME, "")
    return str(Reference.parse(short).tagged()) if "/" in short or ":" in short else ""


def encode_layout_index(entries: Sequence[Descriptor]) -> bytes:
    """The bytes of `index.json`."""
    data = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [entry.to_json() for entry in entries],
    }
    return gojson.dump(data)


def decode_layout_index(raw: bytes) -> tuple[Descriptor, ...]:
    """The entries of an `index.json`.

    Raises:
        ContentError: it is not an index.
    """
    document = decode(raw, mediatype.OCI_INDEX)
    if not isinstance(document, Index):
        raise ContentError("index.json is a manifest, not an index")
    return document.manifests


def check_layout_version(raw: bytes) -> None:
    """Check the content of the `oci-layout` file.

    Raises:
        ContentError: malformed, or a version we do not know.
    """
    try:
        version = json.loads(raw).get("imageLayoutVersion")
    except (ValueError, AttributeError) as error:
        raise ContentError(f"oci-layout is malformed: {error}") from error
    if not isinstance(version, str) or not version.startswith("1."):
        raise ContentError(f"OCI layout version {version!r} is not supported", hint="version 1.0.0 is")


class Layout:
    """A layout in a directory: reads and writes blobs and names. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()

    @classmethod
    def create(cls, root: Path) -> Layout:
        """The layout at `root`, made if there is none (into an existing directory, too)."""
        os.makedirs(root / "blobs" / "sha256", exist_ok=True)
        layout = cls(root)
        if not (root / LAYOUT_FILE).exists():
            layout._replace(LAYOUT_FILE, LAYOUT_VERSION)
        if not (root / INDEX_FILE).exists():
            layout._replace(INDEX_FILE, encode_layout_index(()))
        return layout

    @classmethod
    def at(cls, root: Path) -> Layout:
        """The layout that is at `root`.

        Raises:
            NotFound: there is none.
            ContentError: a version we do not know.
        """
        try:
            check_layout_version((root / LAYOUT_FILE).read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{root} is not an OCI layout: it has no file {LAYOUT_FILE}") from error
        return cls(root)

    @property
    def root(self) -> Path:
        """The directory."""
        return self._root

    @contextmanager
    def open(self, descriptor: Descriptor) -> Iterator[Readable]:
        try:
            number = os.open(self._root / blob_path(descriptor.digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"{descriptor.digest} is not in the layout {self._root}") from error
        with open(number, "rb") as file:
            yield VerifiedReader(file, descriptor.digest, descriptor.size)

    def has(self, descriptor: Descriptor) -> bool:
        try:
            return os.stat(self._root / blob_path(descriptor.digest)).st_size == descriptor.size
        except FileNotFoundError:
            return False

    def lends(self, descriptor: Descriptor) -> bool:
        """Whether `open` will find the content: the question a repository is asked as well."""
        return self.has(descriptor)

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        verified = VerifiedReader(content, descriptor.digest, descriptor.size)
        with self._appearing(blob_path(descriptor.digest), mode=0o444) as file:
            done = 0
            while data := verified.read(CHUNK):
                file.write(data)
                done += len(data)
                if report is not None:
                    report(done)

    def entries(self) -> tuple[Descriptor, ...]:
        """The entries of the layout's index, one for each name of each image."""
        path = self._root / INDEX_FILE
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ContentError(f"{path} is over the limit of {_MAX_INDEX_BYTES} bytes")
        return decode_layout_index(path.read_bytes())

    def entries_by_tag(self) -> dict[str, Digest]:
        """What each tag (or full name) of the index leads to; an entry without one is there as `""`."""
        return {entry.annotations.get(REF_NAME, ""): entry.digest for entry in self.entries()}

    def size_of(self, digest: Digest) -> int | None:
        """How large a blob is, or None when it is not there."""
        try:
            return os.stat(self._root / blob_path(digest)).st_size
        except FileNotFoundError:
            return None

    def resolve(self, name: str) -> Descriptor:
        for entry in self.entries():
            if name in (entry.annotations.get(IMAGE_NAME), entry.annotations.get(REF_NAME), entry.digest):
                return replace(entry, annotations={})
        raise NotFound(f"{name} is not in the layout {self._root}")

    def tag(self, descriptor: Descriptor, name: str) -> None:
        self.add(named(descriptor, name))

    def add(self, entry: Descriptor) -> None:
        """List an entry in the index; it takes the place of an entry with the same name."""
        name = entry.annotations.get(IMAGE_NAME)

        def superseded(old: Descriptor) -> bool:
            if name is None:
                tag = entry.annotations.get(REF_NAME)
                same_tag = tag is not None and tag == old.annotations.get(REF_NAME)
                return (old.digest == entry.digest or same_tag) and IMAGE_NAME not in old.annotations
            return old.annotations.get(IMAGE_NAME) == name

        with self._lock:
            kept = [old for old in self.entries() if not superseded(old)]
            self._replace(INDEX_FILE, encode_layout_index([*kept, entry]))

    def write_entries(self, entries: Sequence[Descriptor]) -> None:
        """Put other entries in the place of all there are."""
        self._replace(INDEX_FILE, encode_layout_index(entries))

    def retag(self, root: Descriptor, tag: str) -> None:
        """List `root` under the bare name `tag`, in place of what had it. Caches are named so; images are not."""
        entry = root.bare().with_annotations({REF_NAME: tag})

        def superseded(old: Descriptor) -> bool:
            return old.annotations.get(REF_NAME) == tag and IMAGE_NAME not in old.annotations

        with self._lock:
            kept = [old for old in self.entries() if not superseded(old)]
            self._replace(INDEX_FILE, encode_layout_index([*kept, entry]))

    def _replace(self, name: str, data: bytes) -> None:
        with self._appearing(name, mode=0o644) as file:
            file.write(data)

    @contextmanager
    def _appearing(self, name: str, *, mode: int) -> Iterator[BinaryIO]:
        """A file that is there, whole, once the block has ended well."""
        with_id = f".{os.getpid()}-{threading.get_ident()}-{name.rpartition('/')[2]}"
        target = self._root / name
        os.makedirs(target.parent, exist_ok=True)
        temporary = self._root / with_id
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.rename(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
