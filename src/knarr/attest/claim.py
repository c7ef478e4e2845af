"""What a document claims: of which digests, and what. Signatures and attestations come down to the same record.

A signature of an image is a claim without content. It has two forms: cosign's
payload, which is containers' "simple signing" with a digest and a name in it, and an
in-toto statement whose predicate type says that it is a signature.

    claim = read(payload, SIMPLE_SIGNING)
    claim.digests, claim.identity, claim.annotations

Spec: cosign, "Signature Specification"; in-toto attestation framework v1.0, statement.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knarr.errors import ContentError
from knarr.record import field, record
from knarr.spec import gojson
from knarr.spec.digest import Digest
from knarr.spec.mediatype import IN_TOTO

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_PREDICATE = "https://sigstore.dev/cosign/sign/v1"  # of cosign 3: a statement that only signs
_PAYLOAD_TYPE = "cosign container image signature"
_STATEMENTS = ("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1")
_STATEMENT_TYPES = (IN_TOTO, "application/vnd.in-toto.provenance+dsse")  # payload types of envelopes that were met


@record
class Claim:
    """What is said, and of what. `predicate_type` is empty for a payload of simple signing."""

    digests: frozenset[str]  # `algorithm:hex` of each subject
    predicate_type: str = ""
    identity: str = ""  # the name under which the image was signed, where the form has one
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    predicate: Any = field(default=None, hash=False, repr=False)

    @property
    def is_signature(self) -> bool:
        """Whether it says nothing but that the image is signed."""
        return self.predicate_type in ("", SIGNATURE_PREDICATE)


def read(payload: bytes, media_type: str) -> Claim:
    """The claim of a payload.

    Raises:
        ContentError: not JSON, of another type, or without a subject.
    """
    if media_type == SIMPLE_SIGNING:
        return _simple_signing(_object(payload))
    if media_type in _STATEMENT_TYPES or media_type.startswith("application/vnd.in-toto"):
        return _statement(_object(payload))
    raise ContentError(f"a payload of type {media_type or '(none)'}, which claims nothing of images")


def simple_signing(digest: Digest, identity: str, annotations: Mapping[str, str]) -> bytes:
    """The payload that signs an image under the name `identity`; its bytes are those of cosign 2."""
    critical = {
        "identity": {"docker-reference": identity},
        "image": {"docker-manifest-digest": str(digest)},
        "type": _PAYLOAD_TYPE,
    }
    return gojson.dump({"critical": critical, "optional": dict(sorted(annotations.items())) or None})


def signing_statement(digest: Digest, identity: str, annotations: Mapping[str, str]) -> bytes:
    """The statement that signs an image and says nothing more: what cosign 3 puts into a bundle.

    cosign leaves the name out; with it, it can be compared as that of a payload can.
    """
    subject: dict[str, Any] = {"name": identity, "digest": {digest.algorithm: digest.hex}}
    if annotations:
        subject["annotations"] = dict(sorted(annotations.items()))
    document = {"_type": _STATEMENTS[0], "subject": [subject], "predicateType": SIGNATURE_PREDICATE, "predicate": {}}
    return gojson.dump(document)


def statement(digest: Digest, name: str, predicate_type: str, predicate: Any) -> bytes:
    """A statement about one image."""
    subject = {"name": name, "digest": {digest.algorithm: digest.hex}}
    document = {"_type": _STATEMENTS[0], "subject": [subject], "predicateType": predicate_type, "predicate": predicate}
    return gojson.dump(document)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"the payload is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ContentError("the payload is not a JSON object")
    return found


def _simple_signing(payload: dict[str, Any]) -> Claim:
    critical = payload.get("critical")
    optional = payload.get("optional") or {}
    try:
        if critical["type"] != _PAYLOAD_TYPE or not isinstance(optional, dict):  # type: ignore[index]  # see below
            raise ContentError(f"a payload that calls itself {critical['type']!r}")  # type: ignore[index]
        digest = Digest.parse(critical["image"]["docker-manifest-digest"])  # type: ignore[index]
        identity = str(critical["identity"]["docker-reference"])  # type: ignore[index]
    except (KeyError, TypeError):
        raise ContentError("the payload lacks a member that every signature has") from None
    return Claim(frozenset((str(digest),)), identity=identity, annotations=_texts(optional))


def _statement(payload: dict[str, Any]) -> Claim:
    if payload.get("_type") not in _STATEMENTS:
        raise ContentError(f"a statement of type {payload.get('_type')!r}, which is not known")
    subjects = payload.get("subject") or []  # BuildKit writes none for an image without a name
    if not isinstance(subjects, list):
        raise ContentError("the subject of the statement is no list")
    digests: set[str] = set()
    annotations: dict[str, str] = {}
    for subject in subjects:
        given = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(given, dict):
            raise ContentError("a subject of the statement has no digest")
        digests.update(f"{algorithm}:{value}" for algorithm, value in given.items())
        annotations.update(_texts(subject.get("annotations") or {}))
    kind = payload.get("predicateType")
    if not isinstance(kind, str) or not kind:
        raise ContentError("the statement has no predicateType")
    identity = str(subjects[0].get("name") or "") if kind == SIGNATURE_PREDICATE and len(subjects) == 1 else ""
    return Claim(frozenset(digests), kind, identity, annotations, payload.get("predicate"))


def _texts(values: Any) -> dict[str, str]:
    if not isinstance(values, dict):
        raise ContentError("annotations must be an object")
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
