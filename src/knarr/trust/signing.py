"""Sign an image or a statement about one, in the forms that others read.

    made = sign_image(repository, root, "registry.example/app:1", SignOptions((signer,)))
    made = sign_statement(repository, root, statement, SignOptions((signer,)))

Nothing is told to a transparency log: the signatures are for those who have the key.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from knarr.attest import bundle, claim, dsse
from knarr.attest.evidence import ATT_TAG, MAX_BYTES, SIG_TAG, SIGNATURE, Evidence
from knarr.attest.evidence import BUNDLE as BUNDLE_FORM
from knarr.attest.keylesssign import KeylessSigner
from knarr.attest.keys import PublicKey, Signer
from knarr.errors import ContentError, UsageError
from knarr.image.successors import read_small
from knarr.record import field, record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.mediatype import IN_TOTO
from knarr.trust.attach import ATT, SIG, Destination, Part, attach_bundle, attach_to_tag
from knarr.trust.gather import ATTESTATIONS, SIGNATURES, gather

TAG, BUNDLE, BOTH = "tag", "bundle", "both"
FORMS = (BOTH, TAG, BUNDLE)
_PREDICATE_TYPE = "predicateType"  # annotation of cosign's on a layer of `.att`


@record
class SignOptions:
    """Who signs, where the signatures go, and what they say besides. What is there already is not made again."""

    signers: tuple[Signer, ...] = ()
    form: str = BOTH
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    replace: bool = False  # earlier signatures of the same keys go
    keyless: KeylessSigner | None = None  # an identity, which signs in bundles only

    @property
    def in_tag(self) -> bool:
        return self.form in (TAG, BOTH)

    @property
    def in_bundle(self) -> bool:
        return self.form in (BUNDLE, BOTH)


@record
class Made:
    """One manifest that was written. `what`: `signature tag`, `bundle` …"""

    what: str
    subject: Digest
    descriptor: Descriptor


def sign_image(target: Destination, subject: Descriptor, identity: str, options: SignOptions) -> tuple[Made, ...]:
    """Sign `subject` under the name `identity`.

    Raises:
        ContentError: the tag for signatures holds something else.
        RegistryError, Cancelled
    """
    made: list[Made] = []
    there = () if options.replace else gather(target, subject, wanted=SIGNATURES)
    if options.in_tag:
        payload = claim.simple_signing(subject.digest, identity, options.annotations)
        parts = [
            Part(payload, claim.SIMPLE_SIGNING, {SIGNATURE: _text(signer.sign(payload))})
            for signer in _lacking(options.signers, there, SIG_TAG, payload)
        ]
        if parts:
            keeps = _keeps(target, options, _is_signature_by)
            tagged = attach_to_tag(target, subject.digest, SIG, parts, keeps=keeps)
            made.append(Made(SIG_TAG, subject.digest, tagged))
    if options.in_bundle:
        statement = claim.signing_statement(subject.digest, identity, options.annotations)
        made += _bundles(target, subject, statement, claim.SIGNATURE_PREDICATE, options, there)
    return tuple(made)


def sign_statement(
    target: Destination, subject: Descriptor, statement: bytes, options: SignOptions
) -> tuple[Made, ...]:
    """Sign a statement about `subject`, in an envelope.

    Raises:
        UsageError: it is a statement about something else.
        ContentError: it is none, or the tag for attestations holds something else.
        RegistryError, Cancelled
    """
    said = claim.read(statement, IN_TOTO)
    if str(subject.digest) not in said.digests:
        about = ", ".join(sorted(said.digests)) or "nothing"
        raise UsageError(f"the statement is about {about}, and not about {subject.digest}")
    made: list[Made] = []
    there = () if options.replace else gather(target, subject, wanted=ATTESTATIONS)
    if options.in_tag and (signers := _lacking(options.signers, there, ATT_TAG, statement)):
        envelope = dsse.dump(dsse.seal(statement, IN_TOTO, signers))
        part = Part(envelope, dsse.MEDIA_TYPE, {SIGNATURE: "", _PREDICATE_TYPE: said.predicate_type})
        keeps = _keeps(target, options, _is_envelope_by(said.predicate_type))
        made.append(Made(ATT_TAG, subject.digest, attach_to_tag(target, subject.digest, ATT, [part], keeps=keeps)))
    if options.in_bundle:
        made += _bundles(target, subject, statement, said.predicate_type, options, there)
    return tuple(made)


def _bundles(
    target: Destination,
    subject: Descriptor,
    statement: bytes,
    kind: str,
    options: SignOptions,
    there: Iterable[Evidence],
) -> list[Made]:
    sealed = [bundle.seal(statement, signer) for signer in _lacking(options.signers, there, BUNDLE_FORM, statement)]
    if options.keyless is not None:
        sealed.append(options.keyless.bundle(statement))
    return [Made(BUNDLE_FORM, subject.digest, attach_bundle(target, subject, raw, kind)) for raw in sealed]


def _lacking(signers: Sequence[Signer], there: Iterable[Evidence], form: str, payload: bytes) -> list[Signer]:
    """Those who have not signed `payload` in this form."""
    same = [piece for piece in there if piece.form == form and piece.payload == payload]

    def has_signed(signer: Signer) -> bool:
        return any(signer.public.accepts(one.signature, piece.message) for piece in same for one in piece.signatures)

    return [signer for signer in signers if not has_signed(signer)]


_ByKey = Callable[[Descriptor, bytes, PublicKey], bool]


def _keeps(target: Destination, options: SignOptions, made_by: _ByKey) -> Callable[[Descriptor], bool]:
    """Which layers of a tag stay: all, or with `replace` those that none of the signers made."""

    def keeps(layer: Descriptor) -> bool:
        try:
            data = read_small(target, layer, limit=MAX_BYTES)
            return not any(made_by(layer, data, signer.public) for signer in options.signers)
        except ContentError:
            return True  # it is not ours to judge

    return keeps if options.replace else lambda layer: True


def _is_signature_by(layer: Descriptor, data: bytes, key: PublicKey) -> bool:
    return key.accepts(dsse.decoded(layer.annotations.get(SIGNATURE)), data)


def _is_envelope_by(predicate_type: str) -> _ByKey:
    def made_by(layer: Descriptor, data: bytes, key: PublicKey) -> bool:
        found = dsse.Envelope.parse(data)
        of_type = claim.read(found.payload, found.payload_type).predicate_type == predicate_type
        return of_type and any(key.accepts(one.signature, found.message) for one in found.signatures)

    return made_by


def _text(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def annotations_of(words: Any) -> dict[str, str]:
    """The annotations that `KEY=VALUE` words name.

    Raises:
        UsageError: a word has no `=`.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise UsageError(f"annotation {word!r}: must be KEY=VALUE")
        found[name] = value
    return found
