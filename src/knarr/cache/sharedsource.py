"""Where a shared cache is read from: a registry, a directory, or the configs of images.

Only documents are read: a manifest and its config. A manifest whose config is a
cache config is a cache; so is an index that has one among its entries (BuildKit's
older form). Any other is an image, or an index of images, whose configs may have
a cache of their own layers in them.

Spec: BuildKit v0.33, cache/remotecache/import.go and its registry and local.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from knarr.cache.sharedconfig import INLINE_MEMBER, MAX_BYTES, MEDIA_TYPE, decode_config, decode_inline
from knarr.cache.sharedgraph import CREATED, DIFF_ID, Origin, SharedGraph
from knarr.content.target import Lender
from knarr.errors import ContentError, KnarrError, NotFound
from knarr.image.layout import Layout, blob_path
from knarr.image.successors import read_document, read_small
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest
from knarr.spec.reference import Reference

if TYPE_CHECKING:
    from knarr.remote.repository import Registry


class LentCache(Lender, Protocol):
    """A directory of a caller's: blobs by digest."""

    def size_of(self, digest: Digest) -> int | None:
        """How large a blob is, or None when it is not there."""
        ...


def open_registry(attrs: Mapping[str, str], registry: Callable[[], Registry]) -> tuple[Origin, Descriptor]:
    """The cache of `type=registry`: where its blobs are, and its manifest.

    Raises:
        NotFound, RegistryError: there is none, or the registry cannot be asked.
    """
    reference = Reference.parse(attrs["ref"])
    client = registry()
    if attrs.get("registry.insecure") == "true":
        client = client.trusting(reference.registry)
    repository = client.repository(reference)
    return Origin(str(reference.tagged()), repository, repository.name), repository.resolve(reference.locator)


def open_lent(attrs: Mapping[str, str], place: LentCache) -> tuple[Origin, Descriptor]:
    """The cache of `type=local` in a directory of a caller far away, who says which manifest: see `open_registry`."""
    digest = Digest.parse(attrs.get("digest", ""))
    size = place.size_of(digest)
    if size is None:
        raise NotFound(f"{digest} is not in the directory {attrs['src']}")
    return Origin(f"directory {attrs['src']}", place), Descriptor("", digest, size)


def open_directory(attrs: Mapping[str, str]) -> tuple[Origin, Descriptor]:
    """The cache of `type=local`: see `open_registry`."""
    root = Path(attrs["src"])
    layout = Layout(root)  # BuildKit's older versions wrote no file that says it is one
    origin = Origin(f"directory {root}", layout)
    if "digest" in attrs:
        digest = Digest.parse(attrs["digest"])
        try:
            return origin, Descriptor("", digest, (root / blob_path(digest)).stat().st_size)
        except OSError as error:
            raise NotFound(f"{digest} is not in the directory {root}") from error
    try:
        return origin, layout.resolve(attrs.get("tag", "latest"))
    except OSError as error:
        raise NotFound(f"there is no cache in the directory {root}") from error


def read_caches(origin: Origin, top: Descriptor) -> list[SharedGraph]:
    """The caches behind a manifest or an index: usually one, or one per platform of an image.

    Raises:
        ContentError: what is there is neither a cache nor an image.
        RegistryError: it could not be fetched.
    """
    document = read_document(origin.place, top)
    entries = document.manifests if isinstance(document, Index) else (document.config, *document.layers)
    config = next((entry for entry in entries if entry.media_type == MEDIA_TYPE), None)
    if config is None:
        return _inline(origin, document)
    raw = read_small(origin.place, config, limit=MAX_BYTES)
    return [SharedGraph(decode_config(raw), {entry.digest: entry for entry in entries}, origin)]


def _inline(origin: Origin, document: Manifest | Index) -> list[SharedGraph]:
    if isinstance(document, Manifest):
        found = _of_image(origin, document)
        return [found] if found is not None else []
    graphs = []
    for entry in document.manifests:
        if entry.platform is not None and entry.platform.is_attestation():
            continue
        if not mediatype.is_manifest(entry.media_type):
            continue
        image = read_document(origin.place, entry)
        found = _of_image(origin, image) if isinstance(image, Manifest) else None
        if found is not None:
            graphs.append(found)
    return graphs


def _of_image(origin: Origin, image: Manifest) -> SharedGraph | None:
    """The cache in an image's config, None when there is none."""
    try:
        config = json.loads(read_small(origin.place, image.config, limit=MAX_BYTES))
        inner = config.get(INLINE_MEMBER)
        if not inner:
            return None
        records = base64.b64decode(inner, validate=True)
        diff_ids = [Digest.parse(str(diff_id)) for diff_id in config["rootfs"]["diff_ids"]]
        made = [line for line in config.get("history") or () if not line.get("empty_layer")]
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise ContentError(f"the image config {image.config.digest} has no cache that can be read: {error}") from error
    if len(diff_ids) != len(image.layers):
        raise ContentError(f"the image has {len(image.layers)} layers, its config {len(diff_ids)}")
    blobs = _annotated(image.layers, diff_ids, made)
    inline = decode_inline(records, [layer.digest for layer in image.layers])
    return SharedGraph(inline, {blob.digest: blob for blob in blobs}, origin)


def _annotated(
    layers: Sequence[Descriptor], diff_ids: Sequence[Digest], history: Sequence[Mapping[str, Any]]
) -> list[Descriptor]:
    """Layers with what a cache's own manifest would say of them. (Any: JSON of an image config.)"""
    times = [str(line.get("created") or "") for line in history] + [""] * len(layers)
    return [
        layer.with_annotations({DIFF_ID: str(diff_id), **({CREATED: time} if time else {})})
        for layer, diff_id, time in zip(layers, diff_ids, times, strict=False)
    ]


Warn = Callable[[str], None]


def load(
    kind: str,
    attrs: Mapping[str, str],
    registry: Callable[[], Registry],
    warn: Warn,
    *,
    lent: Callable[[str], LentCache] | None = None,
) -> list[SharedGraph]:
    """The caches of one `--cache-from`. None, and a warning, where something is wrong: a build can do without.

    `lent` gives the directory of a caller far away; None: the caller's directories are here.
    """
    name = attrs.get("ref") or attrs.get("src", "")
    try:
        if kind != "local":
            origin, top = open_registry(attrs, registry)
        elif lent is not None:
            origin, top = open_lent(attrs, lent(attrs["src"]))
        else:
            origin, top = open_directory(attrs)
        graphs = read_caches(origin, top)
    except (KnarrError, OSError) as error:
        told = error.message if isinstance(error, KnarrError) else error.strerror
        warn(f"cache {name} is not used: {told}")
        return []
    except (AttributeError, TypeError, ValueError, KeyError):  # JSON of another shape, somewhere in its documents
        warn(f"cache {name} is not used: its documents are malformed")
        return []
    if not graphs:
        warn(f"cache {name} is not used: it is an image without a cache in it")
    return graphs
