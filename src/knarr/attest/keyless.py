"""Signatures of people and workflows instead of keys: certificates of Fulcio's kind, checked without a network.

A certificate lives for minutes and says who had it; that it was used then is what a
transparency log and time stampers say, and all of them sign. What is trusted of them
stands in a file, sigstore's `trusted_root.json`. The checking is done by the library
`sigstore`, which comes with the extra `knarr[keyless]`.

    rules = Keyless(root, identities=(Identity(subject="a@b.example", issuer="https://login.example"),))
    identity_of(evidence, rules)  # "a@b.example (https://login.example)"

Spec: sigstore client specification, section 4; tried with sigstore 4.5.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from knarr.attest.evidence import Evidence, NotTrusted
from knarr.errors import ContentError, Unsupported, UsageError
from knarr.record import record

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_ISSUER, _ISSUER_V2 = "1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8"  # Fulcio's extensions


@record
class Identity:
    """Who may have signed. Empty: not asked; a pattern must match the whole text."""

    subject: str = ""
    subject_pattern: str = ""
    issuer: str = ""
    issuer_pattern: str = ""

    def takes(self, subjects: tuple[str, ...], issuer: str) -> bool:
        return any(_fits(self.subject, self.subject_pattern, one) for one in subjects) and _fits(
            self.issuer, self.issuer_pattern, issuer
        )

    def __str__(self) -> str:
        subject = self.subject or f"/{self.subject_pattern}/"
        issuer = self.issuer or f"/{self.issuer_pattern}/"
        return f"{subject} of {issuer}"


@record
class Keyless:
    """Whom to trust: the authorities and logs of a trusted root, and the identities that they may vouch for."""

    trusted_root: str  # JSON
    identities: tuple[Identity, ...]
    name: str = ""  # the file, for messages


def identity_of(piece: Evidence, rules: Keyless) -> str:
    """Who signed a piece, when a certificate says so and everything about it holds.

    Raises:
        NotTrusted: something about it does not.
        UsageError: the trusted root is none.
        Unsupported: the library is not installed.
    """
    library = _library()
    try:
        root = library.TrustedRoot(library.RootModel.from_json(rules.trusted_root))
        verifier = library.Verifier(trusted_root=root)
    except Exception as error:  # whatever the library's model says of a file that is none
        raise UsageError(f"{rules.name}: not a trusted root: {in_one_line(error)}") from None
    try:
        bundle = library.Bundle.from_json(_bundle_text(piece))
        rule = _Rule(rules.identities, library.VerificationError)
        _, payload = verifier.verify_dsse(bundle, rule)
    except Exception as error:  # of a hostile bundle the library may say anything; none of it is a yes
        raise NotTrusted(f"its certificate does not hold: {in_one_line(error)}") from None
    # A text may be read in two ways (members twice, or by their other names): what was verified is what must count.
    if payload != piece.payload:
        raise NotTrusted("what its certificate signed is not what the bundle says")
    return rule.found


class _Rule:
    """The policy that the library asks about a certificate."""

    def __init__(self, identities: tuple[Identity, ...], refusal: type[Exception]) -> None:
        self._identities, self._refusal = identities, refusal
        self.found = ""

    def verify(self, cert: Certificate) -> None:
        subjects, issuer = described(cert)
        if not any(identity.takes(subjects, issuer) for identity in self._identities):
            wanted = ", or ".join(map(str, self._identities))
            raise self._refusal(f"it is for {', '.join(subjects)} of {issuer}, and {wanted} is asked for")
        self.found = f"{', '.join(subjects)} ({issuer})"


def described(certificate: Certificate) -> tuple[tuple[str, ...], str]:
    """The identities of a certificate, and who told Fulcio of them."""
    from cryptography import x509

    subjects: list[str] = []
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
            subjects += names.get_values_for_type(kind)
    except x509.ExtensionNotFound:
        pass
    return tuple(subjects), _extension(certificate, _ISSUER_V2) or _extension(certificate, _ISSUER)


def _extension(certificate: Certificate, oid: str) -> str:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid)).value
    except x509.ExtensionNotFound:
        return ""
    assert isinstance(found, x509.UnrecognizedExtension)
    raw = found.value
    # The newer one is a DER UTF8String, whose length of up to 127 takes one byte; the older is the text alone.
    if oid == _ISSUER_V2 and raw[:1] == b"\x0c":
        raw = raw[2:] if raw[1] < 128 else raw[2 + (raw[1] & 0x7F) :]
    return raw.decode("utf-8", "replace")


def _fits(wanted: str, pattern: str, found: str) -> bool:
    if wanted:
        return wanted == found
    return bool(pattern) and re.fullmatch(pattern, found) is not None


def _bundle_text(piece: Evidence) -> str:
    if piece.bundle is None:
        raise ContentError("tags of cosign's hold a log's promise and no proof; the image's bundles have both")
    return piece.bundle.raw.decode()


def in_one_line(error: BaseException) -> str:
    """What a foreign error says, for a message of ours."""
    return " ".join(str(error).split())[:300] or type(error).__name__


class _Library:
    """What is used of `sigstore`."""

    def __init__(self) -> None:
        import sigstore.errors
        import sigstore.models
        import sigstore.verify.verifier
        import sigstore_models.trustroot.v1 as trustroot

        self.Bundle = sigstore.models.Bundle
        self.TrustedRoot = sigstore.models.TrustedRoot
        self.RootModel: Any = trustroot.TrustedRoot
        self.Verifier = sigstore.verify.verifier.Verifier
        self.VerificationError = sigstore.errors.VerificationError


def _library() -> _Library:
    try:
        return _Library()
    except ImportError as error:
        raise Unsupported(
            f"certificates of signatures cannot be checked: {error.name} is not installed",
            hint="pip install 'knarr[keyless]'",
        ) from None
