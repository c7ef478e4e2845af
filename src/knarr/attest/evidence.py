"""One piece of evidence about an image: bytes that were found, read into what they are, without a verdict.

    evidence = of_layer(layer, data, on=digest)
    evidence.claim, evidence.message, evidence.signatures

Whatever is wrong with it is kept in `problem`: a piece that cannot be read is told
of, and convinces nobody.
"""

from __future__ import annotations

from knarr.attest import bundle, claim, dsse
from knarr.attest.bundle import Bundle
from knarr.attest.claim import Claim
from knarr.attest.dsse import Signature
from knarr.errors import ContentError
from knarr.record import field, record, replace
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.mediatype import IN_TOTO

SIGNATURE = "dev.cosignproject.cosign/signature"  # annotations of a layer in cosign's tags
CERTIFICATE, CHAIN = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain"
LOG_ENTRY = "dev.sigstore.cosign/bundle"
MAX_BYTES = 40 << 20  # of one piece: BuildKit's limit for a statement

# Where evidence is met.
SIG_TAG, ATT_TAG, BUNDLE, ENVELOPE, IN_INDEX, REFERRER = (
    "signature tag",
    "attestation tag",
    "bundle",
    "envelope",
    "in-index attestation",
    "referrer",
)


class NotTrusted(Exception):
    """Why a piece of evidence does not count; ends as the reason of a finding."""


@record
class Evidence:
    """What was found on `on` in the blob `digest`."""

    form: str
    on: Digest
    digest: Digest
    claim: Claim | None = None
    message: bytes = field(default=b"", repr=False)  # what the signatures are over
    signatures: tuple[Signature, ...] = ()
    certificate: str = field(default="", repr=False)  # PEM; of whoever signed, when there is one
    log_entry: str = field(default="", repr=False)  # JSON of Rekor's promise, in a tag of cosign's
    bundle: Bundle | None = field(default=None, repr=False)
    payload: bytes = field(default=b"", repr=False)
    problem: str = ""

    @property
    def is_signed(self) -> bool:
        return bool(self.signatures) or (self.bundle is not None and bool(self.bundle.certificate))

    @property
    def is_keyless(self) -> bool:
        """Whether a certificate says who signed."""
        return bool(self.certificate) or (self.bundle is not None and bool(self.bundle.certificate))


def is_evidence(media_type: str) -> bool:
    """Whether a layer of this type is read as a signature or an attestation."""
    return media_type in (claim.SIMPLE_SIGNING, dsse.MEDIA_TYPE, IN_TOTO) or bundle.is_bundle(media_type)


def of_layer(layer: Descriptor, data: bytes, *, on: Digest, form: str) -> Evidence:
    """The evidence that a layer holds; `form` says where it was met, unless the layer's type says more."""
    blank = Evidence(form, on, layer.digest)
    try:
        if layer.media_type == claim.SIMPLE_SIGNING:
            return _simple_signing(blank, layer, data)
        if bundle.is_bundle(layer.media_type):
            return _bundle(replace(blank, form=BUNDLE), data)
        if layer.media_type == dsse.MEDIA_TYPE:
            found = dsse.Envelope.parse(data)
            certificate = layer.annotations.get(CERTIFICATE, "")
            return replace(_envelope(blank, found), certificate=certificate, log_entry=_log_entry(layer))
        return _plain(blank, data)
    except ContentError as error:
        return replace(blank, problem=error.message)


def absent(form: str, on: Digest, digest: Digest, why: str) -> Evidence:
    """Evidence that was named and could not be had."""
    return Evidence(form, on, digest, problem=why)


def _simple_signing(blank: Evidence, layer: Descriptor, data: bytes) -> Evidence:
    signature = layer.annotations.get(SIGNATURE, "")
    if not signature:
        raise ContentError("there is no signature beside the payload")
    return replace(
        blank,
        claim=claim.read(data, claim.SIMPLE_SIGNING),
        message=data,
        payload=data,
        signatures=(Signature(dsse.decoded(signature)),),
        certificate=layer.annotations.get(CERTIFICATE, ""),
        log_entry=_log_entry(layer),
    )


def _log_entry(layer: Descriptor) -> str:
    return layer.annotations.get(LOG_ENTRY, "")


def _bundle(blank: Evidence, data: bytes) -> Evidence:
    found = Bundle.parse(data)
    if found.envelope is None:
        raise ContentError("the bundle signs a blob, and claims nothing of an image")
    read = _envelope(blank, found.envelope)
    hinted = tuple(replace(one, key_hint=one.key_hint or found.key_hint) for one in read.signatures)
    return replace(read, bundle=found, signatures=hinted)


def _envelope(blank: Evidence, found: dsse.Envelope) -> Evidence:
    return replace(
        blank,
        claim=claim.read(found.payload, found.payload_type),
        message=found.message,
        payload=found.payload,
        signatures=found.signatures,
    )


def _plain(blank: Evidence, data: bytes) -> Evidence:
    """A statement that nobody signed, as BuildKit writes it; some write an envelope under the same type."""
    try:
        return replace(blank, claim=claim.read(data, IN_TOTO), payload=data)
    except ContentError as error:
        try:
            return _envelope(blank, dsse.Envelope.parse(data))
        except ContentError:
            raise error from None
