"""Find the evidence about one digest: cosign's tags, referrers, and the attestations of an index.

    pieces = gather(repository, descriptor)
    pieces = gather(repository, child, index=index, wanted=ATTESTATIONS)

It costs a request for each place that is looked at, and one for each piece. What is
listed and cannot be read is a piece with a problem, so that a verdict can say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from knarr.attest import bundle, claim, dsse
from knarr.attest.evidence import (
    ATT_TAG,
    IN_INDEX,
    MAX_BYTES,
    REFERRER,
    SIG_TAG,
    Evidence,
    absent,
    is_evidence,
    of_layer,
)
from knarr.content.target import Fetcher, Predecessors, Resolver
from knarr.errors import ContentError, NotFound
from knarr.image.select import REFERENCE_DIGEST, REFERENCE_TYPE
from knarr.image.successors import is_document, read_document, read_small
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index, Manifest
from knarr.spec.mediatype import IN_TOTO
from knarr.spec.referrers import fallback_tag

SIGNATURES, ATTESTATIONS = frozenset(("signatures",)), frozenset(("attestations",))
EVERYTHING = SIGNATURES | ATTESTATIONS
_MOST_DOCUMENTS = 500  # that hang on one digest; beyond, somebody wants us to be busy
_MOST_LAYERS = 100  # of one document
_MOST_TOTAL = 256 << 20  # bytes of all pieces on one digest


class Place(Fetcher, Resolver, Predecessors, Protocol):
    """Where images are, and what belongs to them."""


def gather(
    place: Place, subject: Descriptor, *, index: Index | None = None, wanted: frozenset[str] = EVERYTHING
) -> tuple[Evidence, ...]:
    """The evidence about `subject`; `index` is the one that lists it, for its attestations there.

    Raises:
        RegistryError: the place does not answer.
        ContentError: there is no end to what it lists.
        Cancelled
    """
    seen: set[Digest] = set()
    found: list[Evidence] = []
    left = _MOST_TOTAL
    for form, document in _documents(place, subject, index, wanted):
        if document.digest in seen:
            continue
        seen.add(document.digest)
        if len(seen) > _MOST_DOCUMENTS:
            raise ContentError(f"{subject.digest}: more than {_MOST_DOCUMENTS} documents hang on it")
        for piece, size in _pieces(place, document, subject.digest, form, wanted, left):
            left -= size
            found.append(piece)
    return tuple(found)


def _documents(
    place: Place, subject: Descriptor, index: Index | None, wanted: frozenset[str]
) -> Iterator[tuple[str, Descriptor]]:
    """What hangs on a digest, and how it was met."""
    tag = fallback_tag(subject.digest)
    if wanted & SIGNATURES:
        yield from ((SIG_TAG, one) for one in _tagged(place, f"{tag}.sig"))
    if wanted & ATTESTATIONS:
        yield from ((ATT_TAG, one) for one in _tagged(place, f"{tag}.att"))
        yield from ((IN_INDEX, one) for one in _listed_in(index, subject.digest))
    listed = tuple(place.predecessors(subject)) or _fallback(place, tag, subject.digest)
    yield from ((REFERRER, one) for one in listed if is_document(one.media_type))


def _tagged(place: Place, tag: str) -> Iterable[Descriptor]:
    try:
        return (place.resolve(tag),)
    except NotFound:
        return ()


def _fallback(place: Place, tag: str, subject: Digest) -> Iterable[Descriptor]:
    """The list that clients keep in a tag; a registry may have the API and not have taken it up."""
    for found in _tagged(place, tag):
        document = read_document(place, found)
        if isinstance(document, Index) and found.digest != subject:  # cosign's copies are called so themselves
            return document.manifests
    return ()


def _listed_in(index: Index | None, digest: Digest) -> Iterator[Descriptor]:
    for entry in index.manifests if index is not None else ():
        if entry.annotations.get(REFERENCE_DIGEST) == digest and (
            entry.annotations.get(REFERENCE_TYPE) == "attestation-manifest"
        ):
            yield entry


def _pieces(
    place: Place, entry: Descriptor, on: Digest, form: str, wanted: frozenset[str], left: int
) -> Iterator[tuple[Evidence, int]]:
    """The pieces of one document, with the bytes each took."""
    try:
        document = read_document(place, entry)
    except ContentError as error:
        if form != REFERRER or _may_be_evidence(entry):
            yield absent(form, on, entry.digest, f"its manifest cannot be read: {error.message}"), 0
        return
    if not isinstance(document, Manifest):
        return
    if form == REFERRER and (document.subject is None or document.subject.digest != on):
        if _may_be_evidence(entry):
            yield absent(form, on, entry.digest, "it is listed as a referrer, and does not name the image"), 0
        return
    layers = [layer for layer in document.layers if _is_wanted(layer, document, wanted)]
    if len(layers) > _MOST_LAYERS:
        yield absent(form, on, entry.digest, f"it has {len(layers)} parts; at most {_MOST_LAYERS} are read"), 0
        return
    for layer in layers:
        yield _piece(place, layer, on, form, left), layer.size
        left -= layer.size


def _may_be_evidence(entry: Descriptor) -> bool:
    """Whether a referrer that cannot be read looked like a signature or an attestation in its list."""
    kind = entry.artifact_type
    return not kind or is_evidence(kind) or "cosign" in kind or "attestation" in kind or kind.endswith("empty.v1+json")


def _is_wanted(layer: Descriptor, document: Manifest, wanted: frozenset[str]) -> bool:
    if not is_evidence(layer.media_type):
        return False
    if layer.media_type == claim.SIMPLE_SIGNING:
        return bool(wanted & SIGNATURES)
    if layer.media_type in (IN_TOTO, dsse.MEDIA_TYPE):
        return bool(wanted & ATTESTATIONS)
    # Of a bundle its annotation tells; it is no more than a hint, and one without is read.
    kind = document.annotations.get(bundle.PREDICATE_TYPE, "")
    if not kind:
        return True
    return bool(wanted & (SIGNATURES if kind == claim.SIGNATURE_PREDICATE else ATTESTATIONS))


def _piece(place: Place, layer: Descriptor, on: Digest, form: str, left: int) -> Evidence:
    if layer.size > MAX_BYTES or layer.size > left:
        return absent(form, on, layer.digest, f"it has {layer.size} bytes, which is more than is read")
    try:
        data = read_small(place, layer, limit=MAX_BYTES)
    except NotFound:
        return absent(form, on, layer.digest, "its manifest is there, and its content is not")
    except ContentError as error:
        return absent(form, on, layer.digest, f"its content cannot be read: {error.message}")
    return of_layer(layer, data, on=on, form=form)
