"""Hold an image against a policy before it is used.

    guard = Guard(policy)
    guard.check(repository, root, DOCKER, reference)  # raises Untrusted

What was checked is a digest; whoever was told yes must go on with that digest, and
not ask for the tag again.
"""

from __future__ import annotations

from knarr.attest.judge import Verdict, judge
from knarr.errors import KnarrError
from knarr.image.select import images_of
from knarr.image.successors import read_document
from knarr.record import record, replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.manifest import Index
from knarr.spec.reference import Reference
from knarr.trust.gather import ATTESTATIONS, SIGNATURES, Place, gather
from knarr.trust.policy import ACCEPT, OCI, REJECT, UNREADABLE, Policy, Requirement


class Untrusted(KnarrError):
    """An image that a trust policy refuses; `verdicts` are what was found about it."""

    def __init__(self, message: str, *, hint: str = "", verdicts: tuple[Verdict, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.verdicts = verdicts


@record
class Guard:
    """A policy that is asked."""

    policy: Policy

    def check(self, place: Place, root: Descriptor, transport: str, name: Reference | str) -> tuple[Verdict, ...]:
        """What was found about `root`, when the policy lets it pass; nothing, where nothing is asked.

        Raises:
            Untrusted: it does not; the message says why.
            RegistryError, Cancelled
        """
        asked = self.policy.requirements(transport, name)
        shown = name.familiar if isinstance(name, Reference) else f"{transport}:{name}"
        verdicts: list[Verdict] = []
        for one in asked.items:
            self._refuse(one, shown, asked.scope)
            if one.kind == ACCEPT:
                continue
            verdict = self._judged(place, root, one, name)
            verdicts.append(verdict)
            if not verdict.accepted:
                raise Untrusted(
                    f"{shown}: {verdict.reason}",
                    hint=f"{self.policy.file} asks for it ({asked.scope}); `knarr verify` shows what was found",
                    verdicts=tuple(verdicts),
                )
        return tuple(verdicts)

    def check_lent(self, shown: str) -> None:
        """The same of an image that a build's caller lends from a layout, whose place is not told.

        Raises:
            Untrusted: the policy does not accept every layout.
        """
        asked = self.policy.requirements(OCI, "/")
        for one in asked.items:
            self._refuse(one, shown, asked.scope)
            if one.kind != ACCEPT:
                raise Untrusted(
                    f"{shown}: a layout that is lent to a build cannot be verified",
                    hint=f"{self.policy.file} asks for a signature ({asked.scope})",
                )

    def _refuse(self, one: Requirement, shown: str, scope: str) -> None:
        if one.kind == REJECT:
            raise Untrusted(
                f"{shown}: the trust policy refuses it", hint=f"{self.policy.file}: {scope} says so; add a rule for it"
            )
        if one.kind == UNREADABLE:
            raise Untrusted(f"{shown}: {one.why}", hint=f"{self.policy.file}: {scope}")

    def _judged(self, place: Place, root: Descriptor, one: Requirement, name: Reference | str) -> Verdict:
        wish = replace(one.wish, signed_as=_signed_as(name))
        wanted = SIGNATURES if wish.predicate_type is None else ATTESTATIONS
        verdict = judge(gather(place, root, wanted=wanted), root.digest, wish)
        if verdict.accepted or wish.predicate_type is None:
            return verdict
        # Attestations are often about the platforms of an index: then every one of them has to have it.
        document = read_document(place, root)
        if not isinstance(document, Index) or not images_of(document):
            return verdict
        for entry in images_of(document):
            verdict = judge(gather(place, entry, index=document, wanted=wanted), entry.digest, wish)
            if not verdict.accepted:
                break
        return verdict


def _signed_as(name: Reference | str) -> str:
    return str(name) if isinstance(name, Reference) else ""
