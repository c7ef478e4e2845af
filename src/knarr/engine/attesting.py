"""What is attested of a build: what its frontend said, and what the build was asked to tell.

`attestations` is called between the solving and the export. Each kind that can be
asked for has its maker, which is given the whole build and answers for all platforms
at once; what it makes is a promise (`attest.statement.Attestation`), kept when an
exporter wants the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from knarr.attest.provenance import COMPATIBILITY, Request
from knarr.attest.statement import Attestation
from knarr.attest.wanted import PROVENANCE, SBOM
from knarr.errors import Bug
from knarr.record import field, record

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.engine.job import Job
    from knarr.frontend.request import FrontendResult


@record
class Solved:
    """A build that was solved, as the makers of attestations see it.

    `records` are the results, in the frontend's order of platforms; `request` is what the
    caller asked for, `environment` what the builder's owner adds to provenance.
    """

    job: Job
    frontend: FrontendResult
    records: Sequence[RecordId | None]
    request: Request
    environment: Mapping[str, Any] = field(default_factory=dict, hash=False)
    compatibility: int = COMPATIBILITY


Maker = Callable[[Solved, Mapping[str, str]], Sequence[Sequence[Attestation]]]


def attestations(solved: Solved, wanted: Mapping[str, Mapping[str, str]]) -> list[tuple[Attestation, ...]]:
    """Everything to be said of each platform, in the frontend's order. `wanted`: kind → its options.

    Raises:
        KnarrError: one of them cannot be made.
    """
    results = solved.frontend.results
    said: list[list[Attestation]] = [[] for _ in results]
    for mine, result in zip(said, results, strict=True):
        if result.attestations:
            from knarr.engine.given import given

            mine += given(solved.job, result)
    for kind, attrs in sorted(wanted.items(), key=lambda one: one[0] == PROVENANCE):  # what is used for others counts
        for mine, made in zip(said, _maker(kind)(solved, attrs), strict=True):
            mine += made
    return [tuple(mine) for mine in said]


def _maker(kind: str) -> Maker:
    if kind == PROVENANCE:
        from knarr.engine.provenance import make

        return make
    if kind == SBOM:
        from knarr.engine import sbom

        return sbom.make
    raise Bug(f"attestations of type {kind!r} were let pass")
