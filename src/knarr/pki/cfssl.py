"""cfssl's files, read as they are: CSR documents, signing profiles, and what `cfssl gencert` prints.

Spec: cfssl 1.6, csr/csr.go (CertificateRequest), config/config.go (SigningProfile).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.pki.names import Names
from knarr.pki.settings import Subject, Use, checked_key_kind, parse_lifetime
from knarr.record import record

_SERVER, _CLIENT = "server auth", "client auth"
_FIVE_YEARS = "43800h"  # cfssl's default for a CA


@record
class Request:
    """A CSR document: whom to name, which names, which kind of key, and for a CA how long it holds."""

    subject: Subject
    names: Names
    key_kind: str
    lifetime_s: int


@record
class Profile:
    """A signing profile: for what, and how long."""

    use: Use
    lifetime_s: int


def request(data: bytes, *, where: str) -> Request:
    """Read a CSR document.

    Raises:
        UsageError: it is none, or asks for a key that is not made.
    """
    document = _document(data, where)
    parts = document.get("names") or [{}]
    first = parts[0] if isinstance(parts, list) and isinstance(parts[0], Mapping) else {}
    subject = Subject(
        common_name=str(document.get("CN", "")),
        organization=str(first.get("O", "")),
        unit=str(first.get("OU", "")),
        country=str(first.get("C", "")),
        state=str(first.get("ST", "")),
        locality=str(first.get("L", "")),
    )
    key = document.get("key") or {"algo": "ecdsa", "size": 256}
    expiry = (document.get("ca") or {}).get("expiry") or _FIVE_YEARS
    return Request(subject, Names.parse(map(str, document.get("hosts") or ())), _key_kind(key, where), _time(expiry))


def profiles(data: bytes, *, where: str) -> dict[str, Profile]:
    """The profiles of a configuration by name; the default is named "".

    Raises:
        UsageError: it is none.
    """
    signing = _document(data, where).get("signing")
    if not isinstance(signing, Mapping) or not isinstance(signing.get("default", {}), Mapping):
        raise UsageError(f"{where}: no signing profiles of cfssl")
    default = signing.get("default") or {}
    found = {"": _profile(default, default)}
    for name, profile in (signing.get("profiles") or {}).items():
        found[str(name)] = _profile(profile, default)
    return found


def bundle(data: bytes, *, where: str) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) from what `cfssl gencert` printed.

    Raises:
        UsageError: it has no key, or is something else.
    """
    document = _document(data, where)
    result = document.get("result", document)
    if not isinstance(result, Mapping) or not result.get("cert") or not result.get("key"):
        raise UsageError(f"{where}: no certificate with its key, as `cfssl gencert` prints them")
    return str(result["cert"]).encode(), str(result["key"]).encode()


def is_document(data: bytes) -> bool:
    """Whether it is JSON, and not PEM."""
    return data.lstrip()[:1] == b"{"


def _document(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, Mapping):
        raise UsageError(f"{where}: not a document of cfssl")
    return document


def _key_kind(key: Mapping[str, Any], where: str) -> str:
    algorithm, size = str(key.get("algo", "ecdsa")), key.get("size", 256)
    names = {"ecdsa": f"ecdsa-p{size}", "rsa": f"rsa-{size}", "ed25519": "ed25519"}
    try:
        return checked_key_kind(names.get(algorithm, algorithm))
    except UsageError as error:
        raise error.with_context(file=where) from None


def _profile(profile: Mapping[str, Any], default: Mapping[str, Any]) -> Profile:
    usages = [str(usage) for usage in profile.get("usages") or default.get("usages") or ()]
    use = Use.PEER if {_SERVER, _CLIENT} <= set(usages) else Use.CLIENT if _CLIENT in usages else Use.SERVER
    return Profile(use, _time(profile.get("expiry") or default.get("expiry") or "8760h"))


def _time(text: object) -> int:
    return parse_lifetime(str(text))
