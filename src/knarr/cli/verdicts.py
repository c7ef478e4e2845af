"""How verdicts on signatures and attestations look: lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from knarr.attest.judge import Finding, Verdict
from knarr.record import record


@record
class Judged:
    """A verdict, and what it is about."""

    image: str
    verdict: Verdict
    platform: str = ""


def as_text(judged: Sequence[Judged]) -> str:
    """An image a line, and below it a line for each piece of evidence."""
    return "\n".join(line for one in judged for line in _lines(one))


def as_json(judged: Sequence[Judged]) -> str:
    """The same as a list of objects."""
    return json.dumps([_object(one) for one in judged], indent=2, ensure_ascii=False)


def _lines(one: Judged) -> Iterator[str]:
    verdict = one.verdict
    platform = f"  {one.platform}" if one.platform else ""
    yield f"{one.image}@{verdict.digest}{platform}  {'verified' if verdict.accepted else 'NOT VERIFIED'}"
    for finding in verdict.findings:
        yield f"  {_shown(finding)}"
    if not verdict.accepted:
        yield f"  {verdict.reason}" if not verdict.findings else "  nothing that counts is enough"


def _shown(finding: Finding) -> str:
    claim = finding.evidence.claim
    kind = f"  {claim.predicate_type}" if claim is not None and not claim.is_signature else ""
    start = f"{'yes' if finding.counts else 'no '}  {finding.evidence.form}{kind}  {finding.evidence.digest}"
    if not finding.counts:
        return f"{start}  {finding.reason}"
    said = " ".join(f"{key}={value}" for key, value in claim.annotations.items()) if claim is not None else ""
    named = f"  as {claim.identity}" if claim is not None and claim.identity else ""
    return f"{start}  by {finding.by}{named}{f'  ({said})' if said else ''}"


def _object(one: Judged) -> dict[str, Any]:
    verdict = one.verdict
    found: dict[str, Any] = {"image": one.image, "digest": str(verdict.digest)}
    if one.platform:
        found["platform"] = one.platform
    found |= {"verified": verdict.accepted, "signers": list(verdict.signers)}
    if not verdict.accepted:
        found["reason"] = verdict.reason
    return {**found, "evidence": [_piece(finding) for finding in verdict.findings]}


def _piece(finding: Finding) -> dict[str, Any]:
    piece, claim = finding.evidence, finding.evidence.claim
    found: dict[str, Any] = {"form": piece.form, "digest": str(piece.digest), "verified": finding.counts}
    if finding.counts:
        found["by"] = finding.by
    else:
        found["reason"] = finding.reason
    if claim is not None:
        if not claim.is_signature:
            found["predicateType"] = claim.predicate_type
        if claim.identity:
            found["identity"] = claim.identity
        if claim.annotations:
            found["annotations"] = dict(claim.annotations)
    return found
