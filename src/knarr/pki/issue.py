"""Certificates and revocation lists out of what is wanted. Pure: keys, time and serial number come in.

Spec: RFC 5280, 4.2.1 (extensions) and 5 (CRLs).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knarr.pki.names import Constraints, Names
from knarr.pki.settings import Subject, Use, Wanted
from knarr.record import record

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_BACKDATED = timedelta(minutes=5)  # clocks of those who check may be a little late; cfssl does the same
_CURVES = {"ecdsa-p256": ec.SECP256R1, "ecdsa-p384": ec.SECP384R1}
_USES = {
    Use.SERVER: (ExtendedKeyUsageOID.SERVER_AUTH,),
    Use.CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Use.PEER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}
_PARTS = (
    (NameOID.COUNTRY_NAME, "country"),
    (NameOID.STATE_OR_PROVINCE_NAME, "state"),
    (NameOID.LOCALITY_NAME, "locality"),
    (NameOID.ORGANIZATION_NAME, "organization"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "unit"),
    (NameOID.COMMON_NAME, "common_name"),
)
_MAX_COMMON_NAME = 64  # X.520's ub-common-name; longer ones are only in the subjectAltName


@record
class Signer:
    """Who signs: a certificate of an authority with its key."""

    certificate: x509.Certificate
    key: PrivateKey


def make_key(kind: str) -> PrivateKey:
    """A new key of one of `settings.KEY_KINDS`."""
    if kind in _CURVES:
        return ec.generate_private_key(_CURVES[kind]())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))


def kind_of(key: PrivateKey) -> str:
    """The kind of a key, as `make_key` takes it."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "ecdsa-p384" if key.curve.key_size > 256 else "ecdsa-p256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    return f"rsa-{key.key_size}"


def authority(
    key: PrivateKey,
    subject: Subject,
    *,
    now: datetime,
    lifetime_s: int,
    constraints: Constraints,
    signer: Signer | None = None,
    path_length: int | None = None,
) -> x509.Certificate:
    """A certificate that may sign others: a root, or below `signer` an intermediate."""
    name = distinguished(subject)
    builder = _begin(key.public_key(), name, signer.certificate.subject if signer else name, now, lifetime_s, signer)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    if constraints:
        builder = builder.add_extension(_name_constraints(constraints), critical=True)
    return builder.sign(signer.key if signer else key, _hash(signer.key if signer else key))


def leaf(
    public_key: CertificatePublicKeyTypes, wanted: Wanted, names: Names, *, now: datetime, signer: Signer
) -> x509.Certificate:
    """A certificate for a server or a client. It never outlives its signer."""
    name = distinguished(wanted.subject)
    builder = _begin(public_key, name, signer.certificate.subject, now, wanted.lifetime_s, signer)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    encrypts = isinstance(public_key, rsa.RSAPublicKey)
    builder = builder.add_extension(_key_usage(encrypts=encrypts), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_USES[wanted.use]), critical=False)
    if general := names.general():
        # Critical where the subject says nothing (RFC 5280, 4.2.1.6).
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=not list(name))
    return builder.sign(signer.key, _hash(signer.key))


def revocation_list(
    revoked: Iterable[tuple[int, datetime]], *, number: int, now: datetime, lifetime_s: int, signer: Signer
) -> x509.CertificateRevocationList:
    """The list of (serial number, when) as `signer` tells it."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now)
        .next_update(now + timedelta(seconds=lifetime_s))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_signed_by(signer), critical=False)
    )
    for serial, when in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer.key, _hash(signer.key))


def distinguished(subject: Subject) -> x509.Name:
    """`subject` as X.509 has it."""
    parts = []
    for oid, field in _PARTS:
        text = str(getattr(subject, field))
        if text and not (oid == NameOID.COMMON_NAME and len(text) > _MAX_COMMON_NAME):
            parts.append(x509.NameAttribute(oid, text))
    return x509.Name(parts)


def subject_of(name: x509.Name) -> Subject:
    """An X.509 name as a subject; what a subject has no place for is left out."""
    found = {oid: name.get_attributes_for_oid(oid) for oid, _ in _PARTS}
    return Subject(**{field: str(found[oid][0].value) for oid, field in _PARTS if found[oid]})


def _begin(
    public_key: CertificatePublicKeyTypes,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    lifetime_s: int,
    signer: Signer | None,
) -> x509.CertificateBuilder:
    end = now + timedelta(seconds=lifetime_s)
    if signer is not None:
        end = min(end, signer.certificate.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
    return builder.add_extension(_signed_by(signer), critical=False) if signer is not None else builder


def _signed_by(signer: Signer) -> x509.AuthorityKeyIdentifier:
    try:
        own = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_usage(*, signs: bool = False, encrypts: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encrypts,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name_constraints(constraints: Constraints) -> x509.NameConstraints:
    """Only these names; a kind that is not named at all is shut out, since it would else be free."""
    excluded: list[x509.GeneralName] = []
    if not constraints.networks:
        excluded += Constraints.parse(["0.0.0.0/0", "::/0"]).general()
    if not constraints.domains:
        excluded.append(x509.DNSName(""))  # every one
    return x509.NameConstraints(constraints.general(), excluded or None)


def _hash(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None  # the signature has its own
    is_large = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if is_large else hashes.SHA256()


def utc(seconds: float) -> datetime:
    """A time of this machine's clock as certificates have it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC)
