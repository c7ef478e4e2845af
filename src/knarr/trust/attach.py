"""Put signatures and attestations where others look for them: cosign's tags, and referrers.

    attach_to_tag(repository, subject, SIG, [Part(payload, SIMPLE_SIGNING, {SIGNATURE: text})])
    attach_bundle(repository, subject, raw, predicate_type)

A tag holds one manifest for all signatures of an image, a layer for each, so whoever
adds one writes it anew. Two who do so at once may lose one: after writing we read it
back and add again what vanished, as with a list of referrers.
Spec: cosign, "Signature Specification", "Storage"; tried with cosign 2.5 and skopeo 1.18.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from knarr.attest import bundle
from knarr.content.target import Fetcher, Predecessors, Pusher, Resolver
from knarr.errors import ContentError, KnarrError, NotFound
from knarr.image.successors import read_document
from knarr.record import field, record
from knarr.spec import gojson, mediatype
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import EMPTY, Manifest, encode_manifest
from knarr.spec.referrers import fallback_tag

SIG, ATT = "sig", "att"
_RACES = 5


class Destination(Fetcher, Pusher, Resolver, Predecessors, Protocol):
    """A repository or a layout."""

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "") -> None: ...


@record
class Part:
    """One layer that is to be there."""

    data: bytes = field(repr=False)
    media_type: str
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def descriptor(self) -> Descriptor:
        bare = Descriptor(self.media_type, Digest.of(self.data), len(self.data))
        return bare.with_annotations(self.annotations)


Keeps = Callable[[Descriptor], bool]


def _all(layer: Descriptor) -> bool:
    return True


def attach_to_tag(
    target: Destination, subject: Digest, ending: str, parts: Sequence[Part], *, keeps: Keeps = _all
) -> Descriptor:
    """Add layers to the manifest at `sha256-….<ending>`; those already there stay if `keeps` says so.

    Raises:
        ContentError: the tag holds something else than signatures.
        RegistryError, Cancelled
    """
    tag = f"{fallback_tag(subject)}.{ending}"
    for part in parts:
        push_blob(target, part.descriptor.bare(), part.data)
    ours = [part.descriptor for part in parts]
    for _ in range(_RACES):
        present = [layer for layer in _layers(target, tag) if keeps(layer)]
        layers = [*present, *(layer for layer in ours if layer not in present)]
        config = _config(layers)
        push_blob(target, Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config)), config)
        manifest = encode_manifest(Descriptor(mediatype.OCI_CONFIG, Digest.of(config), len(config)), layers)
        target.push_manifest(manifest.descriptor.bare(), manifest.raw, tag=tag)
        if all(layer in _layers(target, tag) for layer in ours):
            return manifest.descriptor.bare()
    raise KnarrError(f"others keep changing tag {tag}", hint="sign again when they are done")


def attach_bundle(
    target: Destination, subject: Descriptor, raw: bytes, predicate_type: str, *, created: str = ""
) -> Descriptor:
    """Push a sigstore bundle as a referrer of `subject`; `created` is a time in RFC 3339's form.

    Raises:
        RegistryError, Cancelled
    """
    layer = Descriptor(bundle.MEDIA_TYPE, Digest.of(raw), len(raw))
    push_blob(target, layer, raw)
    push_blob(target, EMPTY, b"{}")
    annotations = {bundle.CONTENT: "dsse-envelope", bundle.PREDICATE_TYPE: predicate_type}
    if created:
        annotations["org.opencontainers.image.created"] = created
    manifest = encode_manifest(
        EMPTY, [layer], annotations=annotations, artifact_type=bundle.MEDIA_TYPE, subject=subject.bare()
    )
    target.push_manifest(manifest.descriptor.bare(), manifest.raw)
    return manifest.descriptor.bare()


def push_blob(target: Pusher, descriptor: Descriptor, data: bytes) -> None:
    """Store a blob unless it is there."""
    if not target.has(descriptor.bare()):
        target.push(descriptor.bare(), io.BytesIO(data))


def _layers(target: Destination, tag: str) -> tuple[Descriptor, ...]:
    try:
        found = target.resolve(tag)
    except NotFound:
        return ()
    document = read_document(target, found)
    if not isinstance(document, Manifest):
        raise ContentError(f"tag {tag} holds an index", hint="signatures of an image need this tag: remove it")
    return document.layers


def _config(layers: Sequence[Descriptor]) -> bytes:
    """What containers' library and cosign expect of an image: a config that lists the layers."""
    listed = {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]}
    return gojson.dump({"architecture": "", "os": "", "config": {}, "rootfs": listed})
