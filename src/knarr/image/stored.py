"""The images in a store: found by what people call them, and described by what is here of them.

A store may have an index without all of its platforms (one was pulled), and a
manifest without its layers (they went straight to a registry).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from knarr.content.target import Fetcher
from knarr.errors import NotFound, UsageError
from knarr.image.select import images_of
from knarr.image.successors import read_config, read_document
from knarr.record import record
from knarr.spec.config import ImageConfig
from knarr.spec.manifest import Index, Manifest
from knarr.spec.platform import Platform, host_platform
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from knarr.content.names import Name
    from knarr.content.store import Store
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest
    from knarr.streams import Readable

_SHORTEST_ID = 4  # hex digits: fewer are a name or a slip


class Holder(Fetcher, Protocol):
    """A place that has content, or has it not."""

    def has(self, descriptor: Descriptor) -> bool: ...


@record
class StoredImage:
    """One platform's image of a name, as far as it is here. `size_bytes`: of its blobs that are here."""

    descriptor: Descriptor
    platform: Platform
    manifest: Manifest
    config: ImageConfig
    size_bytes: int


def lookup(store: Store, text: str) -> Name:
    """The name `text` stands for: a reference, a digest, or the beginning of one.

    Raises:
        NotFound: there is no such image.
        UsageError: several images' digests begin like this.
    """
    names = store.names
    if not _looks_like_digest(text):
        found = names.get(str(Reference.parse(text).tagged()))
        if found is not None:
            return found
    wanted = text.removeprefix("sha256:")
    same = [name for name in names.list() if _is_hex(wanted) and name.descriptor.digest.hex.startswith(wanted)]
    if len({name.descriptor.digest for name in same}) > 1:
        raise UsageError(f"{text} is the beginning of several digests", hint="give more digits, or a name")
    if not same:
        raise NotFound(f"there is no image {text} in the store", hint="`knarr images` lists what there is")
    return same[0]


def _looks_like_digest(text: str) -> bool:
    return text.startswith("sha256:") and _is_hex(text.removeprefix("sha256:"))


def _is_hex(text: str) -> bool:
    return len(text) >= _SHORTEST_ID and all(c in "0123456789abcdef" for c in text)


def images_here(store: Holder, root: Descriptor) -> Iterator[StoredImage]:
    """The images under `root` whose manifest and config are in the store."""
    if not store.has(root):
        return
    document = read_document(store, root)
    if isinstance(document, Manifest):
        yield from _image_here(store, root, document)
        return
    for entry in images_of(document):
        if store.has(entry):
            found = read_document(store, entry)
            if isinstance(found, Manifest):
                yield from _image_here(store, entry, found)


def _image_here(store: Holder, descriptor: Descriptor, manifest: Manifest) -> Iterator[StoredImage]:
    if not store.has(manifest.config) or manifest.artifact_type:
        return
    config = read_config(store, manifest)
    blobs = {blob.digest: blob.size for blob in (descriptor, *manifest.successors) if store.has(blob)}
    yield StoredImage(descriptor, config.platform, manifest, config, sum(blobs.values()))


def one_image(store: Store, name: Name, wanted: Platform | None) -> StoredImage:
    """The image for `wanted`; without it this machine's, or else the first that is here.

    Raises:
        NotFound: the image is not here for the platform, or not at all.
    """
    here = list(images_here(store, name.descriptor))
    chosen = wanted or host_platform()
    for image in here:
        if image.platform == chosen:
            return image
    if here and wanted is None:
        return here[0]
    known = ", ".join(str(image.platform) for image in here)
    raise NotFound(
        f"{name.name} is not in the store{f' for {wanted}' if wanted else ''}",
        hint=f"here are: {known}" if known else "pull it first",
    )


def platforms_here(source: Holder, root: Descriptor) -> tuple[Platform, ...] | None:
    """The platforms of an index whose manifests `source` has; None when that is all of it."""
    document = read_document(source, root)
    if not isinstance(document, Index):
        return None
    entries = images_of(document)
    here = [entry for entry in entries if source.has(entry)]
    return None if len(here) == len(entries) else tuple(_known(entry.platform for entry in here))


def _known(platforms: Iterable[Platform | None]) -> Iterator[Platform]:
    return (platform for platform in platforms if platform is not None)


class StoreAsLent:
    """A store as content that is found by digest alone: implements `session.LentContent`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        return self._store.open(descriptor)

    def size_of(self, digest: Digest) -> int | None:
        return self._store.find(digest)
