"""Image manifests and image indexes, OCI's and Docker's.

A `Manifest` or an `Index` keeps the exact bytes it was read from: its digest is
theirs. `encode_manifest` and `encode_index` make new ones. Spec: image-spec
v1.1, manifest.md and image-index.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson, mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

EMPTY = Descriptor(mediatype.OCI_EMPTY, Digest.of(b"{}"), 2, data=b"{}")  # the config of an artifact that needs none
MAX_MANIFEST_BYTES = 4 * 2**20  # distribution-spec v1.1: registries accept at least 4 MiB; containerd reads no more


@record
class Manifest:
    """One image (or artifact): a config and its layers."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw), artifact_type=self.artifact_type)

    @property
    def successors(self) -> tuple[Descriptor, ...]:
        """Everything this manifest needs to be whole (its subject is a weak link and not among them)."""
        return (self.config, *self.layers)


@record
class Index:
    """Several manifests under one name, usually one per platform."""

    raw: bytes = field(repr=False)
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    artifact_type: str = ""
    subject: Descriptor | None = None

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.raw), len(self.raw), artifact_type=self.artifact_type)

    @property
    def successors(self) -> tuple[Descriptor, ...]:
        return self.manifests


def decode(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index; the document's own `mediaType` decides, then `media_type`, then its shape.

    Raises:
        ContentError: not JSON, too large, or neither form (Docker schema 1 included).
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ContentError(f"a manifest of {len(raw)} bytes is over the limit of {MAX_MANIFEST_BYTES}")
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"a manifest is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ContentError("a manifest must be a JSON object")
    if data.get("schemaVersion") == 1:
        raise ContentError(
            "the image is in Docker's schema 1, which no current tool writes", hint="push it again with a current tool"
        )
    kind = str(data.get("mediaType") or "") or media_type
    if not (mediatype.is_index(kind) or mediatype.is_manifest(kind)):
        kind = mediatype.OCI_INDEX if "manifests" in data else mediatype.OCI_MANIFEST
    subject = data.get("subject")
    common: dict[str, Any] = {
        "annotations": {str(k): str(v) for k, v in (data.get("annotations") or {}).items()},
        "artifact_type": str(data.get("artifactType") or ""),
        "subject": Descriptor.from_json(subject) if subject else None,
    }
    if mediatype.is_index(kind):
        if "layers" in data or "config" in data:
            raise ContentError("the document is both an index and a manifest")
        return Index(raw, kind, _descriptors(data, "manifests"), **common)
    if "manifests" in data:
        raise ContentError("the document is both an index and a manifest")
    return Manifest(raw, kind, Descriptor.from_json(data.get("config")), _descriptors(data, "layers"), **common)


def _descriptors(data: Mapping[str, Any], member: str) -> tuple[Descriptor, ...]:
    items = data.get(member) or []
    if not isinstance(items, list):
        raise ContentError(f"{member!r} must be a list")
    return tuple(Descriptor.from_json(item) for item in items)


def encode_manifest(
    config: Descriptor,
    layers: Sequence[Descriptor],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> Manifest:
    """Make a manifest; its bytes are those BuildKit writes for the same content (two-space indentation)."""
    kind = mediatype.OCI_MANIFEST if oci else mediatype.DOCKER_MANIFEST
    data: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind}
    if artifact_type:
        data["artifactType"] = artifact_type
    data["config"] = config.to_json()
    data["layers"] = [layer.to_json() for layer in layers] or None  # Go's word for none
    if subject is not None:
        data["subject"] = subject.to_json()
    if annotations:
        data["annotations"] = dict(sorted(annotations.items()))
    return Manifest(
        gojson.dump(data, indent=2), kind, config, tuple(layers), dict(annotations or {}), artifact_type, subject
    )


def encode_index(
    manifests: Sequence[Descriptor],
    *,
    oci: bool = True,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str = "",
    subject: Descriptor | None = None,
) -> Index:
    """Make an index over `manifests`, in the order given."""
    kind = mediatype.OCI_INDEX if oci else mediatype.DOCKER_INDEX
    data: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind}
    if artifact_type:
        data["artifactType"] = artifact_type
    data["manifests"] = [manifest.to_json() for manifest in manifests]
    if subject is not None:
        data["subject"] = subject.to_json()
    if annotations:
        data["annotations"] = dict(sorted(annotations.items()))
    return Index(gojson.dump(data, indent=2), kind, tuple(manifests), dict(annotations or {}), artifact_type, subject)
