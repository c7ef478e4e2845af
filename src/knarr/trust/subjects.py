"""The digests of one image that are signed or checked: what its name leads to, and every platform below."""

from __future__ import annotations

from collections.abc import Iterator

from knarr.attest.claim import SIGNATURE_PREDICATE
from knarr.content.target import Fetcher
from knarr.errors import ContentError
from knarr.image.select import images_of
from knarr.image.successors import read_document
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import Index
from knarr.trust.gather import ATTESTATIONS, Place, gather

_MOST_SUBJECTS = 1000
_MAX_DEPTH = 4  # of indexes in indexes


@record
class Subject:
    """One digest, and the index that lists it."""

    descriptor: Descriptor
    index: Index | None = None

    @property
    def platform(self) -> str:
        """Its platform, or empty."""
        return str(self.descriptor.platform) if self.descriptor.platform else ""


def subjects_of(place: Fetcher, root: Descriptor, *, recursive: bool) -> tuple[Subject, ...]:
    """What `root` names; `recursive`: and every manifest below it that may be run.

    Raises:
        NotFound, ContentError: an index cannot be read.
    """
    found: dict[Digest, Subject] = {root.digest: Subject(root)}
    if recursive:
        for subject in _below(place, root, 0):
            found.setdefault(subject.descriptor.digest, subject)
            if len(found) > _MOST_SUBJECTS:
                raise ContentError(f"{root.digest}: more than {_MOST_SUBJECTS} images are in it")
    return tuple(found.values())


def unsigned_statements(place: Place, subject: Subject) -> Iterator[bytes]:
    """The statements about a digest that nobody signed.

    Raises:
        ContentError, RegistryError: they cannot be read.
    """
    for piece in gather(place, subject.descriptor, index=subject.index, wanted=ATTESTATIONS):
        if piece.problem:
            raise ContentError(f"attestation {piece.digest}: {piece.problem}")
        if piece.claim is not None and not piece.is_signed and piece.claim.predicate_type != SIGNATURE_PREDICATE:
            yield piece.payload


def _below(place: Fetcher, descriptor: Descriptor, depth: int) -> Iterator[Subject]:
    document = read_document(place, descriptor)
    if not isinstance(document, Index):
        return
    if depth == _MAX_DEPTH:
        raise ContentError(f"{descriptor.digest}: indexes are nested more than {_MAX_DEPTH} deep")
    for entry in images_of(document):
        yield Subject(entry, document)
        yield from _below(place, entry, depth + 1)
