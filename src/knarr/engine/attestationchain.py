"""What attests an image and what signs that, read where the image lies: for frontends and policies that check it.

The index leads to the image of a platform and to what is attested of it; who signs the
attestations refers to their manifest.

Spec: BuildKit's ResolveSourceMeta (AttestationChain, ResolveAttestations) at v0.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.content.target import Predecessors
from knarr.errors import ContentError
from knarr.frontend.gateway import AttestationChain
from knarr.image.select import REFERENCE_DIGEST, REFERENCE_TYPE, select
from knarr.spec import mediatype
from knarr.spec.manifest import Index, Manifest, decode

if TYPE_CHECKING:
    from knarr.content.target import Fetcher
    from knarr.ops.images import Images
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.platform import Platform
    from knarr.spec.reference import Reference

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_SIGNATURES = (_BUNDLE, "application/vnd.dev.cosign.artifact.sig.v1+json")  # the better one first
_PREDICATE = "in-toto.io/predicate-type"
_MOST_BYTES = 12 << 20  # of all that is told: an answer is one message of at most 16 MiB


def chain_of(
    images: Images, reference: Reference, platform: Platform, predicates: tuple[str, ...]
) -> AttestationChain | None:
    """The chain of an image's index; None: it is no index. `predicates` are the statements that come along.

    Raises:
        NotFound: there is no image for the platform.
        ContentError: it is too large, or not what it should be.
        RegistryError: the registry said no or could not be reached.
    """
    top, place = images.located(reference)
    reader = _Reader(place)
    if top.media_type != mediatype.OCI_INDEX:
        return None
    index = decode(reader.read(top), top.media_type)
    if not isinstance(index, Index):
        return None
    image = select(index, platform)
    attestation = next((entry for entry in index.manifests if _is_about(entry, image)), None)
    if attestation is None:
        return AttestationChain(top.digest, image.digest, blobs=tuple(reader.found))
    manifest = reader.manifest(attestation)
    signature = _signature(place, attestation)
    if signature is not None:
        for layer in reader.manifest(signature).layers:
            reader.read(layer)
    for layer in manifest.layers:
        if layer.annotations.get(_PREDICATE) in predicates:
            reader.read(layer)
    signed_by = signature.digest if signature is not None else None
    return AttestationChain(top.digest, image.digest, attestation.digest, signed_by, tuple(reader.found))


class _Reader:
    """Reads documents and keeps them, as long as they are not too many."""

    def __init__(self, place: Fetcher) -> None:
        self._place = place
        self._left = _MOST_BYTES
        self.found: list[tuple[Descriptor, bytes]] = []

    def read(self, descriptor: Descriptor) -> bytes:
        self._left -= descriptor.size
        if self._left < 0:
            raise ContentError(
                f"{descriptor.digest}: the attestations of an image are more than {_MOST_BYTES >> 20} MiB",
                hint="ask for fewer types of statements",
            )
        with self._place.open(descriptor) as stream:
            data = b"".join(iter(lambda: stream.read(1 << 16), b""))
        if all(known.digest != descriptor.digest for known, _ in self.found):
            self.found.append((descriptor, data))
        return data

    def manifest(self, descriptor: Descriptor) -> Manifest:
        document = decode(self.read(descriptor), descriptor.media_type)
        if not isinstance(document, Manifest):
            raise ContentError(f"{descriptor.digest}: a manifest is expected, not an index")
        return document


def _is_about(entry: Descriptor, image: Descriptor) -> bool:
    notes = entry.annotations
    return notes.get(REFERENCE_TYPE) == "attestation-manifest" and notes.get(REFERENCE_DIGEST) == image.digest


def _signature(place: Fetcher, attestation: Descriptor) -> Descriptor | None:
    """The manifest that signs an attestation; of several a bundle."""
    if not isinstance(place, Predecessors):
        return None
    found = [entry for entry in place.predecessors(attestation) if entry.artifact_type in _SIGNATURES]
    return min(found, key=lambda entry: _SIGNATURES.index(entry.artifact_type), default=None)
