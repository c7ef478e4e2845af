"""The attestations of an image that a command line asks for: on what its name leads to, and on its platforms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed
from knarr.cli.transfer import PLATFORM_FLAG, platforms

if TYPE_CHECKING:
    from knarr.attest.evidence import Evidence
    from knarr.cli.places import Place
    from knarr.spec.descriptor import Descriptor
    from knarr.trust.subjects import Subject

TYPE_FLAG = Flag(
    "type", Kind.TEXT, "TYPE", "only this predicate type, or a short name: slsaprovenance1, spdx, cyclonedx, custom …"
)
SELECT_FLAGS = (TYPE_FLAG, PLATFORM_FLAG)


def wanted_type(given: Parsed) -> str:
    """The predicate type of `--type`; empty: any."""
    from knarr.attest.predicates import full_type

    return full_type(given.text("type"))


def chosen_subjects(place: Place, root: Descriptor, given: Parsed) -> tuple[Subject, ...]:
    """The image and its platforms; with `--platform` only those.

    Raises:
        NotFound: the image has none of such a platform.
    """
    from knarr.image.select import select
    from knarr.image.successors import read_document
    from knarr.spec.manifest import Index
    from knarr.trust.subjects import subjects_of

    found = subjects_of(place, root, recursive=True)
    wanted = platforms(given)
    if not wanted:
        return found
    document = read_document(place, root)
    if not isinstance(document, Index):
        return found
    digests = {select(document, platform).digest for platform in wanted}
    return tuple(subject for subject in found if subject.descriptor.digest in digests)


def attestations(place: Place, root: Descriptor, given: Parsed) -> Iterator[tuple[Subject, Evidence]]:
    """Every attestation that was asked for; one that cannot be read may be of any type.

    Raises:
        NotFound, ContentError, RegistryError
    """
    from knarr.trust.gather import ATTESTATIONS, gather

    kind = wanted_type(given)
    for subject in chosen_subjects(place, root, given):
        for piece in gather(place, subject.descriptor, index=subject.index, wanted=ATTESTATIONS):
            if piece.claim is None or (
                not piece.claim.is_signature and (not kind or piece.claim.predicate_type == kind)
            ):
                yield subject, piece
