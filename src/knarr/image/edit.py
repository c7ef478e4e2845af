"""Pure changes to images: every function gives a new value and leaves its argument as it was.

A document that was read is changed member by member, so members that we do not
know (somebody newer wrote them) are still there afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from knarr.errors import Bug
from knarr.record import replace
from knarr.spec import gojson, mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index, Manifest, decode

D = TypeVar("D", Manifest, Index)

_OCI_TO_DOCKER = {
    mediatype.OCI_MANIFEST: mediatype.DOCKER_MANIFEST,
    mediatype.OCI_INDEX: mediatype.DOCKER_INDEX,
    mediatype.OCI_CONFIG: mediatype.DOCKER_CONFIG,
    mediatype.OCI_LAYER: mediatype.DOCKER_LAYER,
    mediatype.OCI_LAYER_GZIP: mediatype.DOCKER_LAYER_GZIP,
    mediatype.OCI_LAYER_ZSTD: mediatype.DOCKER_LAYER_ZSTD,
    mediatype.OCI_LAYER_NONDIST + "+gzip": mediatype.DOCKER_LAYER_FOREIGN_GZIP,
}
_DOCKER_TO_OCI = {docker: oci for oci, docker in _OCI_TO_DOCKER.items()}


def with_annotations(document: D, more: Mapping[str, str]) -> D:
    """The document with annotations added or replaced."""

    def change(data: dict[str, Any]) -> None:
        data["annotations"] = dict(sorted({**(data.get("annotations") or {}), **more}.items()))

    return _changed(document, change) if more else document


def with_entries(index: Index, entries: Sequence[Descriptor]) -> Index:
    """The index over other entries, in the order given. Entries it already had keep all their members."""

    def change(data: dict[str, Any]) -> None:
        data["manifests"] = [entry.to_json() for entry in entries]

    return _changed(index, change)


def with_config(manifest: Manifest, config: Descriptor) -> Manifest:
    """The manifest with another config."""

    def change(data: dict[str, Any]) -> None:
        data["config"] = config.to_json()

    return _changed(manifest, change)


def media_type(name: str, *, oci: bool) -> str:
    """The same kind of content in OCI's or Docker's words; a type without a counterpart stays."""
    return (_DOCKER_TO_OCI if oci else _OCI_TO_DOCKER).get(name, name)


def in_words_of(descriptor: Descriptor, *, oci: bool) -> Descriptor:
    """The descriptor with its media type in OCI's or Docker's words. The content stays, and so does the digest."""
    name = media_type(descriptor.media_type, oci=oci)
    return descriptor if name == descriptor.media_type else replace(descriptor, media_type=name)


def distributable(layer: Descriptor) -> Descriptor:
    """The layer under a media type that registries take; where else to fetch it is then nobody's concern."""
    name = layer.media_type.replace(".nondistributable", "").replace(".foreign", "")
    return layer if name == layer.media_type else replace(layer, media_type=name, urls=())


def _changed(document: D, change: Callable[[dict[str, Any]], None]) -> D:
    data = json.loads(document.raw)
    change(data)
    changed = decode(gojson.dump(data, indent=2), document.media_type)
    if type(changed) is not type(document):
        raise Bug(f"an edit turned {document.media_type} into {changed.media_type}")
    return changed
