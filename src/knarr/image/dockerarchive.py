"""Docker's `manifest.json`: what makes a tar of images one that `docker load` reads.

    [{"Config": "blobs/sha256/…", "RepoTags": ["app:1"], "Layers": ["blobs/sha256/…"]}]

Older writers use other paths (`<id>/layer.tar`, `<digest>.json`) and layers that
are not compressed; the layers' digests are then those of the config's diff IDs.
Spec: moby image/spec v1.2; paths as docker 25 and containerd 1.7 write them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable

from knarr.errors import ContentError, KnarrError
from knarr.image.layout import blob_path
from knarr.record import record
from knarr.spec import mediatype
from knarr.spec.config import decode_config
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest, encode_manifest
from knarr.spec.reference import Reference

MANIFEST_FILE = "manifest.json"
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@record
class Entry:
    """One image of a `manifest.json`: paths inside the archive, and full image names."""

    config: str
    layers: tuple[str, ...]
    names: tuple[str, ...] = ()


@record
class Member:
    """A file of the archive as far as an image needs it: its size, its first bytes, and a way to hash it."""

    size: int
    head: bytes
    digest: Callable[[], Digest]


def encode(images: Iterable[tuple[Manifest, Iterable[str]]]) -> bytes:
    """The bytes of `manifest.json` for images whose blobs lie as in an OCI layout."""
    entries = [
        {
            "Config": blob_path(manifest.config.digest),
            "RepoTags": [Reference.parse(name).tagged().familiar for name in names],
            "Layers": [blob_path(layer.digest) for layer in manifest.layers],
        }
        for manifest, names in images
    ]
    return json.dumps(entries, separators=(",", ":")).encode()


def decode(raw: bytes) -> tuple[Entry, ...]:
    """The images of a `manifest.json`.

    Raises:
        ContentError: malformed, or a name in it is.
    """
    try:
        return tuple(
            Entry(
                str(item["Config"]),
                tuple(str(layer) for layer in item.get("Layers") or ()),
                tuple(str(Reference.parse(str(name)).tagged()) for name in item.get("RepoTags") or ()),
            )
            for item in json.loads(raw)
        )
    except KnarrError as error:
        raise ContentError(f"{MANIFEST_FILE}: {error.message}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContentError(f"{MANIFEST_FILE} of the archive is malformed: {error!r}") from error


def manifest_of(entry: Entry, config: bytes, member: Callable[[str], Member]) -> tuple[Manifest, dict[Digest, str]]:
    """The image manifest an entry stands for, and where in the archive its layers are.

    `config` is the content of the entry's config; `member` gives the facts of a layer's file.

    Raises:
        ContentError: the config and the list of layers do not agree.
    """
    diff_ids = decode_config(config).diff_ids
    if len(diff_ids) != len(entry.layers):
        raise ContentError(
            f"{entry.config} names {len(diff_ids)} layers, {MANIFEST_FILE} names {len(entry.layers)} for it"
        )
    layers, places = [], {}
    for path, diff_id in zip(entry.layers, diff_ids, strict=True):
        layer = _layer(path, diff_id, member(path))
        layers.append(layer)
        places[layer.digest] = path
    config_descriptor = Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config))
    return encode_manifest(config_descriptor, layers), places


def _layer(path: str, diff_id: Digest, member: Member) -> Descriptor:
    compression = compression_of_head(member.head)
    if compression == "uncompressed":
        digest = diff_id
    else:
        match = _BLOB.fullmatch(path)
        digest = Digest(f"sha256:{match[1]}") if match else member.digest()
    return Descriptor(mediatype.layer_type(compression, oci=True), digest, member.size)


def compression_of_head(head: bytes) -> str:
    """`gzip`, `zstd` or `uncompressed`, from the first bytes of a layer."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    return "uncompressed"
