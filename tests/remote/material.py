"""Blobs and manifests to send around, and the whole of what comes back."""

from __future__ import annotations

import json

from knarr.remote.repository import Repository
from knarr.spec import mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Manifest, encode_manifest

CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
LAYER = bytes(range(256)) * 4000  # 1 MB


def blob(data: bytes, media_type: str = mediatype.OCI_LAYER) -> Descriptor:
    return Descriptor(media_type, Digest.of(data), len(data))


def image(*layers: bytes, **more: object) -> Manifest:
    config = blob(CONFIG, mediatype.OCI_CONFIG)
    return encode_manifest(config, [blob(layer) for layer in layers], **more)  # type: ignore[arg-type]


def read(repository: Repository, descriptor: Descriptor) -> bytes:
    with repository.open(descriptor) as stream:
        return b"".join(iter(lambda: stream.read(100_000), b""))


class Once:
    """A stream that cannot be rewound."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        piece = self._data[self._at : end]
        self._at += len(piece)
        return piece
