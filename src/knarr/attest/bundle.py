"""Sigstore bundles: a signature with everything that is needed to check it.

A bundle names a public key by a hint, or carries a certificate with what a
transparency log and time stampers said of it (see `keyless`). We write v0.3 with a
public key and an envelope, as cosign 3 does, and read v0.1 to v0.3.

    raw = seal(statement, signer)
    bundle = Bundle.parse(raw)
    bundle.envelope, bundle.key_hint

Spec: sigstore protobuf-specs v0.4, sigstore_bundle.proto.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from knarr.attest import dsse
from knarr.attest.keys import Signer
from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson
from knarr.spec.mediatype import IN_TOTO

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CONTENT, PREDICATE_TYPE = "dev.sigstore.bundle.content", "dev.sigstore.bundle.predicateType"  # annotations of cosign's
_KNOWN = re.compile(r"application/vnd\.dev\.sigstore\.bundle(\.v0\.3\+json|\+json;version=0\.[123])")


def is_bundle(media_type: str) -> bool:
    """Whether content of this type is a sigstore bundle, of whatever version."""
    return media_type.startswith("application/vnd.dev.sigstore.bundle")


@record
class Bundle:
    """What a bundle holds, without a verdict on it."""

    raw: bytes = field(repr=False)
    envelope: dsse.Envelope | None  # None: it signs a digest or a blob
    key_hint: str = ""
    certificate: bytes = field(default=b"", repr=False)  # DER; empty: there is only a key

    @classmethod
    def parse(cls, raw: bytes) -> Bundle:
        """The bundle of a JSON text.

        Raises:
            ContentError: it is none, or of a version that is not known.
        """
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ContentError(f"the bundle is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise ContentError("the bundle is not a JSON object")
        kind = data.get("mediaType")
        if not isinstance(kind, str) or not _KNOWN.fullmatch(kind):
            raise ContentError(f"a bundle of type {kind!r}, which is not known")
        material = data.get("verificationMaterial")
        if not isinstance(material, dict):
            raise ContentError("the bundle has no verificationMaterial")
        envelope = data.get("dsseEnvelope")
        if envelope is None and "messageSignature" not in data:
            raise ContentError("the bundle has no signature")
        return cls(
            raw,
            None if envelope is None else dsse.Envelope.from_json(envelope),
            _hint(material.get("publicKey")),
            _certificate(material),
        )


def seal(statement: bytes, signer: Signer) -> bytes:
    """A bundle of version 0.3 with `statement` in an envelope that `signer` signed."""
    envelope = dsse.seal(statement, IN_TOTO, [signer])
    for one in envelope["signatures"]:
        del one["keyid"]  # the hint says it
    material = {"publicKey": {"hint": signer.public.hint}}
    return gojson.dump({"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _hint(key: Any) -> str:
    return str(key.get("hint") or "") if isinstance(key, dict) else ""


def _certificate(material: dict[str, Any]) -> bytes:
    """The certificate of whoever signed; older versions have a chain, its leaf first."""
    found = material.get("certificate")
    chain = material.get("x509CertificateChain")
    if found is None and isinstance(chain, dict) and isinstance(chain.get("certificates"), list):
        found = (chain["certificates"] or [None])[0]
    if not isinstance(found, dict):
        return b""
    raw = found.get("rawBytes")
    try:
        return base64.b64decode(raw, validate=True) if isinstance(raw, str) else b""
    except ValueError:
        raise ContentError("the bundle's certificate is not base64") from None
