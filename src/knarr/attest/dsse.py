"""DSSE envelopes: a payload with signatures over its type and itself.

    raw = seal(statement, IN_TOTO, [signer])
    envelope = Envelope.parse(raw)
    key.accepts(envelope.signatures[0].signature, envelope.message)

Spec: DSSE v1.0, protocol.md and envelope.md.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from knarr.attest.keys import Signer
from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson

MEDIA_TYPE = "application/vnd.dsse.envelope.v1+json"
_MOST_SIGNATURES = 64


@record
class Signature:
    """One signature, and what its maker calls the key."""

    signature: bytes = field(repr=False)
    key_hint: str = ""


@record
class Envelope:
    """A payload and who signed it."""

    payload: bytes = field(repr=False)
    payload_type: str
    signatures: tuple[Signature, ...]

    @property
    def message(self) -> bytes:
        """What the signatures are over."""
        return pre_authentication(self.payload_type, self.payload)

    @classmethod
    def parse(cls, raw: bytes) -> Envelope:
        """The envelope of a JSON text.

        Raises:
            ContentError: it is none.
        """
        try:
            data = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise ContentError(f"the envelope is not JSON: {error}") from None
        return cls.from_json(data)

    @classmethod
    def from_json(cls, data: Any) -> Envelope:
        """The envelope of a JSON object.

        Raises:
            ContentError: it is none.
        """
        if not isinstance(data, dict) or not isinstance(data.get("signatures"), list):
            raise ContentError("not a DSSE envelope: it has no signatures")
        given = data["signatures"]
        if not 0 < len(given) <= _MOST_SIGNATURES:
            raise ContentError(f"the envelope has {len(given)} signatures; 1 to {_MOST_SIGNATURES} are borne")
        if not all(isinstance(one, dict) for one in given) or not isinstance(data.get("payloadType"), str):
            raise ContentError("not a DSSE envelope")
        signatures = tuple(Signature(decoded(one.get("sig")), str(one.get("keyid") or "")) for one in given)
        return cls(decoded(data.get("payload")), data["payloadType"], signatures)


def seal(payload: bytes, payload_type: str, signers: Sequence[Signer]) -> dict[str, Any]:
    """The envelope as a JSON object, in the order of cosign's members."""
    message = pre_authentication(payload_type, payload)
    signatures = [{"keyid": "", "sig": base64.b64encode(signer.sign(message)).decode()} for signer in signers]
    return {"payloadType": payload_type, "payload": base64.b64encode(payload).decode(), "signatures": signatures}


def dump(envelope: dict[str, Any]) -> bytes:
    return gojson.dump(envelope)


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's PAE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def decoded(value: Any) -> bytes:
    """The bytes of a base64 text, either alphabet.

    Raises:
        ContentError: it is none.
    """
    if not isinstance(value, str):
        raise ContentError("a member that must be base64 is missing")
    try:
        return base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        raise ContentError("a member that must be base64 is not") from None
