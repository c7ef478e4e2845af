"""What a descriptor leads to: the documents and blobs an image consists of.

for descriptor in walk(store, root):  # children first, each digest once
    ...
"""

from __future__ import annotations

from collections.abc import Iterator

from knarr.content.target import Fetcher
from knarr.errors import ContentError, SizeMismatch
from knarr.spec import mediatype
from knarr.spec.config import ImageConfig, decode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import MAX_MANIFEST_BYTES, Index, Manifest, decode

MAX_CONFIG_BYTES = 8 * 2**20  # what BlobStore.read takes; image configs in the field stay below 1 MiB


def is_document(media_type: str) -> bool:
    """Whether content of this type has successors: a manifest or an index, OCI's or Docker's."""
    return mediatype.is_manifest(media_type) or mediatype.is_index(media_type)


def read_small(source: Fetcher, descriptor: Descriptor, *, limit: int) -> bytes:
    """The whole content of a small blob, verified.

    Raises:
        NotFound: `source` does not have it.
        ContentError: it is larger than `limit` bytes, or not what the descriptor says.
    """
    if descriptor.size > limit:
        raise SizeMismatch(f"{descriptor.digest} has {descriptor.size} bytes, over the limit of {limit} for its kind")
    if descriptor.data is not None and Digest.of(descriptor.data) == descriptor.digest:
        return descriptor.data
    parts = []
    with source.open(descriptor) as stream:
        # To the end, and not just `size` bytes: the stream checks the digest there.
        while chunk := stream.read(limit):
            parts.append(chunk)
    return b"".join(parts)


def read_document(source: Fetcher, descriptor: Descriptor) -> Manifest | Index:
    """The manifest or index `descriptor` names.

    Raises:
        NotFound: `source` does not have it.
        ContentError: it is neither, or not what the descriptor says.
    """
    return decode(read_small(source, descriptor, limit=MAX_MANIFEST_BYTES), descriptor.media_type)


def read_config(source: Fetcher, manifest: Manifest) -> ImageConfig:
    """The image config of `manifest`.

    Raises:
        NotFound: `source` does not have it.
        ContentError: the manifest is not of an image, or the config is malformed.
    """
    if manifest.config.media_type not in (mediatype.OCI_CONFIG, mediatype.DOCKER_CONFIG):
        kind = manifest.artifact_type or manifest.config.media_type
        raise ContentError(f"{manifest.descriptor.digest} is not an image but an artifact of type {kind}")
    return decode_config(read_small(source, manifest.config, limit=MAX_CONFIG_BYTES))


def successors(source: Fetcher, descriptor: Descriptor) -> tuple[Descriptor, ...]:
    """The direct children of `descriptor` (a blob has none)."""
    return read_document(source, descriptor).successors if is_document(descriptor.media_type) else ()


def walk(source: Fetcher, root: Descriptor) -> Iterator[Descriptor]:
    """Everything below and including `root`, children before parents, each digest once.

    Reads manifests and indexes only; blobs are named, not opened.
    """
    seen: set[Digest] = set()
    todo: list[tuple[Descriptor, bool]] = [(root, False)]
    while todo:
        descriptor, expanded = todo.pop()
        if expanded:
            yield descriptor
            continue
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        todo.append((descriptor, True))
        todo.extend((child, False) for child in reversed(successors(source, descriptor)))
