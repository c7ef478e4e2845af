"""The verdict on evidence: who signed what, and why a piece does not count.

Nothing passes for want of a reason against it. A piece counts when a key that is
trusted made its signature (or a certificate that is trusted did), when it is about
the very digest that was asked for, and when it says what was asked of it.

    verdict = judge(pieces, digest, Wish(keys=(key,)))
    verdict.accepted, verdict.reason
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from knarr.attest.claim import Claim
from knarr.attest.evidence import Evidence, NotTrusted
from knarr.attest.keyless import Keyless, identity_of
from knarr.attest.keys import PublicKey
from knarr.attest.naming import ANY_NAME, NameRule
from knarr.record import field, record
from knarr.spec.digest import Digest

_SHOWN_REASONS = 3


@record
class Wish:
    """What is asked of evidence."""

    keys: tuple[PublicKey, ...] = ()
    keyless: Keyless | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    name: NameRule = ANY_NAME
    signed_as: str = ""  # the name that the image has now, for `name`
    threshold: int = 1  # different signers that are needed
    predicate_type: str | None = None  # of attestations; None: a signature of the image is wanted


@record
class Finding:
    """One piece of evidence with the verdict on it."""

    evidence: Evidence
    by: str = ""  # who signed: the key's file, or the certificate's identity
    signer: str = ""  # what tells signers apart
    reason: str = ""  # why it does not count; empty: it does

    @property
    def counts(self) -> bool:
        return not self.reason


@record
class Verdict:
    """All findings on one digest, and what follows."""

    digest: Digest
    findings: tuple[Finding, ...]
    accepted: bool
    reason: str = ""

    @property
    def signers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(finding.by for finding in self.findings if finding.counts))


def judge(pieces: Iterable[Evidence], digest: Digest, wish: Wish) -> Verdict:
    """Whether the evidence is what was wished for."""
    findings = tuple(_found(piece, digest, wish) for piece in pieces if _concerns(piece, wish))
    signers = {finding.signer for finding in findings if finding.counts}
    if signers and len(signers) >= wish.threshold:
        return Verdict(digest, findings, True)
    return Verdict(digest, findings, False, _refusal(findings, len(signers), wish))


def check(piece: Evidence, wish: Wish) -> tuple[str, str]:
    """Who signed a piece: the name of the signer, and what tells signers apart.

    Raises:
        NotTrusted: nobody did who is trusted.
    """
    if piece.problem:
        raise NotTrusted(piece.problem)
    if not piece.is_signed:
        raise NotTrusted("nobody signed it")
    for key in wish.keys:
        if any(key.accepts(one.signature, piece.message) for one in piece.signatures):
            return key.name or key.fingerprint, key.fingerprint
    if wish.keyless is not None and piece.is_keyless:
        found = identity_of(piece, wish.keyless)
        return found, found
    raise NotTrusted(_unknown(piece, wish))


def _concerns(piece: Evidence, wish: Wish) -> bool:
    """Whether a piece is of the kind that is wanted; what cannot be read may be anything."""
    if piece.claim is None:
        return True
    if wish.predicate_type is None:
        return piece.claim.is_signature
    return not piece.claim.is_signature and wish.predicate_type in ("", piece.claim.predicate_type)


def _found(piece: Evidence, digest: Digest, wish: Wish) -> Finding:
    try:
        by, signer = check(piece, wish)
        assert piece.claim is not None  # or it had a problem
        _answers(piece.claim, digest, wish)
    except NotTrusted as error:
        return Finding(piece, reason=str(error))
    return Finding(piece, by, signer)


def _answers(claim: Claim, digest: Digest, wish: Wish) -> None:
    """Whether what was said is what was asked."""
    if str(digest) not in claim.digests:
        about = ", ".join(sorted(claim.digests)) or "nothing"
        raise NotTrusted(f"it is about {about[:200]}, and not about {digest}")
    for name, value in wish.annotations.items():
        if claim.annotations.get(name) != value:
            raise NotTrusted(f"it has {name}={claim.annotations.get(name, '')!r}, and {value!r} is asked for")
    if not wish.name.takes(claim.identity, wish.signed_as):
        if not claim.identity:
            raise NotTrusted(f"it names no image, and {wish.name.wanted(wish.signed_as)} is asked for")
        raise NotTrusted(f"it signs {claim.identity}, and {wish.name.wanted(wish.signed_as)} is asked for")


def _unknown(piece: Evidence, wish: Wish) -> str:
    if not wish.keys:
        return "a key signed it, and a certificate is asked for" if not piece.is_keyless else "no key is given"
    hints = {one.key_hint for one in piece.signatures if one.key_hint}
    known = [key for key in wish.keys if key.hint in hints or key.fingerprint in hints]
    if known:
        return f"the signature of {known[0].name} does not fit: the content was changed, or the signature"
    given = ", ".join(key.name or key.fingerprint for key in wish.keys[:4])
    if hints:
        return f"key {sorted(hints)[0][:64]} signed it, which is none of those that are trusted ({given})"
    return f"no key that is trusted ({given}) made its signature, or the content was changed since"


def _refusal(findings: tuple[Finding, ...], signers: int, wish: Wish) -> str:
    kind, of_type = ("signature", "") if wish.predicate_type is None else ("attestation", _of_type(wish.predicate_type))
    if signers:
        return f"{signers} of the signers that are trusted signed it, and {wish.threshold} are needed"
    if not findings:
        return f"there is no {kind}{of_type}"
    reasons = list(dict.fromkeys(finding.reason for finding in findings))
    shown = "; ".join(reasons[:_SHOWN_REASONS])
    more = f"; and {len(reasons) - _SHOWN_REASONS} reasons more" if len(reasons) > _SHOWN_REASONS else ""
    if len(findings) == 1:
        return f"the {kind}{of_type} does not count: {shown}"
    return f"none of {len(findings)} {kind}s{of_type} counts: {shown}{more}"


def _of_type(predicate_type: str) -> str:
    return f" of type {predicate_type}" if predicate_type else ""
