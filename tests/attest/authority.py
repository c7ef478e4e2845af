"""An authority like sigstore's, in a few keys: certificates that live for minutes, a log of them, a log of signatures.

    authority = Authority()
    raw = authority.bundle(statement, subject="dev@corp.example", issuer="https://login.corp.example")
    Keyless(authority.trusted_root, (Identity(…),))

Spec: RFC 6962 (certificates' time stamps), Rekor's `dsse` entry 0.0.1 and checkpoint, Fulcio's extensions.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from knarr.attest.bundle import MEDIA_TYPE
from knarr.attest.dsse import pre_authentication
from knarr.spec.mediatype import IN_TOTO

NOW = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_STAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_URL = "https://rekor.corp.example"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def public_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


def signed(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


class Authority:
    """The keys of all of them, and what is trusted of them."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.ca, self.ct, self.log = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "corp signing")])
        self.root = (
            self._begin(name, name, self.ca.public_key(), now - timedelta(days=1), now + timedelta(days=999))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(certs=True), critical=True)
            .sign(self.ca, hashes.SHA256())
        )

    @property
    def trusted_root(self) -> str:
        start = {"start": "2026-01-01T00:00:00Z"}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            der = public_der(key)
            public = {"rawBytes": text(der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": start}
            found = {"baseUrl": _URL, "hashAlgorithm": "SHA2_256", "publicKey": public}
            return {**found, "logId": {"keyId": text(hashlib.sha256(der).digest())}}

        chain = {"certificates": [{"rawBytes": text(self.root.public_bytes(serialization.Encoding.DER))}]}
        authority = {
            "subject": {"organization": "corp", "commonName": "corp signing"},
            "uri": "https://fulcio.corp.example",
            "certChain": chain,
            "validFor": start,
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "certificateAuthorities": [authority],
            "ctlogs": [log(self.ct)],
            "timestampAuthorities": [],
        }
        return json.dumps(document)

    def bundle(self, statement: bytes, *, subject: str, issuer: str, late: timedelta = timedelta()) -> bytes:
        """A bundle of somebody who had a certificate for ten minutes and signed at NOW, or so much later."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.leaf(key.public_key(), subject, issuer)
        signature = signed(key, pre_authentication(IN_TOTO, statement))
        envelope = {"payload": text(statement), "payloadType": IN_TOTO, "signatures": [{"sig": text(signature)}]}
        entry = self.entry(statement, signature, certificate.public_bytes(serialization.Encoding.PEM), self.now + late)
        der = certificate.public_bytes(serialization.Encoding.DER)
        material = {"certificate": {"rawBytes": text(der)}, "tlogEntries": [entry]}
        return json.dumps(
            {"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope}
        ).encode()

    def _begin(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.ca.public_key()), critical=False)
        )

    def leaf(self, key: ec.EllipticCurvePublicKey, subject: str, issuer: str) -> x509.Certificate:
        said = issuer.encode()
        builder = (
            self._begin(
                x509.Name([]), self.root.subject, key, self.now - timedelta(minutes=1), self.now + timedelta(minutes=9)
            )
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(subject)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(_ISSUER, b"\x0c" + bytes([len(said)]) + said), critical=False)
        )
        # What the log of certificates signs is the certificate without the stamp; all else of the two is the same.
        stamp = self._stamp(builder.sign(self.ca, hashes.SHA256()).tbs_certificate_bytes)
        listed = struct.pack(">HH", len(stamp) + 2, len(stamp)) + stamp
        wrapped = b"\x04" + (bytes([len(listed)]) if len(listed) < 128 else b"\x81" + bytes([len(listed)])) + listed
        extension = x509.UnrecognizedExtension(_STAMPS, wrapped)
        return builder.add_extension(extension, critical=False).sign(self.ca, hashes.SHA256())

    def _stamp(self, certificate: bytes) -> bytes:
        at = struct.pack(">Q", int(self.now.timestamp() * 1000))
        issuer = hashlib.sha256(public_der(self.ca)).digest()
        entry = struct.pack(">H", 1) + issuer + len(certificate).to_bytes(3, "big") + certificate
        signature = signed(self.ct, b"\0\0" + at + entry + b"\0\0")
        log_id = hashlib.sha256(public_der(self.ct)).digest()
        return b"\0" + log_id + at + b"\0\0" + b"\x04\x03" + struct.pack(">H", len(signature)) + signature

    def entry(self, statement: bytes, signature: bytes, pem: bytes, at: datetime) -> dict[str, Any]:
        """The only entry of a log of one."""

        def digest(data: bytes) -> dict[str, str]:
            return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}

        spec = {
            "envelopeHash": digest(b"not looked at"),
            "payloadHash": digest(statement),
            "signatures": [{"signature": text(signature), "verifier": text(pem)}],
        }
        body = json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, separators=(",", ":")).encode()
        der, seconds = public_der(self.log), int(at.timestamp())
        log_id, leaf = hashlib.sha256(der).digest(), hashlib.sha256(b"\0" + body).digest()
        promise = {"body": text(body), "integratedTime": seconds, "logID": log_id.hex(), "logIndex": 0}
        canonical = json.dumps(promise, sort_keys=True, separators=(",", ":")).encode()
        note = f"rekor.corp.example - 1\n1\n{text(leaf)}\n"
        mark = text(log_id[:4] + signed(self.log, note.encode()))
        proof = {"logIndex": "0", "rootHash": text(leaf), "treeSize": "1", "hashes": []}
        return {
            "logIndex": "0",
            "logId": {"keyId": text(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(seconds),
            "inclusionPromise": {"signedEntryTimestamp": text(signed(self.log, canonical))},
            "inclusionProof": {**proof, "checkpoint": {"envelope": f"{note}\n— rekor.corp.example {mark}\n"}},
            "canonicalizedBody": text(body),
        }


def _usage(*, certs: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certs,
        key_cert_sign=certs,
        crl_sign=certs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
