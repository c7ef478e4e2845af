"""containers' policy.json, as skopeo and podman read it.

What cannot be checked here (GPG's simple signing, Fulcio without a whole trusted
root, other authorities) is read, and refuses the images that it is asked of.
Spec: containers-policy.json(5), containers/image 5.34.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Any

from knarr.attest.judge import Wish
from knarr.attest.keys import PublicKey
from knarr.attest.naming import EXACT, EXACT_REFERENCE, EXACT_REPOSITORY, REMAP, REPOSITORY, TAG_OR_REPOSITORY, NameRule
from knarr.errors import UsageError
from knarr.trust.policy import ACCEPT, REJECT, SIGNED, UNREADABLE, Policy, Requirement

_SIGSTORE = {
    *("type", "keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki", "signedIdentity"),
    *("rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"),
}
_SOURCES = ("keyPath", "keyPaths", "keyData", "keyDatas", "fulcio", "pki")
_IDENTITIES = {
    EXACT: (),
    TAG_OR_REPOSITORY: (),
    REPOSITORY: (),
    EXACT_REFERENCE: ("dockerReference",),
    EXACT_REPOSITORY: ("dockerRepository",),
    REMAP: ("prefix", "signedPrefix"),
}


def parse(data: bytes, path: Path) -> Policy:
    """The policy of a policy.json.

    Raises:
        UsageError: it says something that containers' programs would not take either.
    """
    try:
        document = json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a policy: {error}") from None
    where = str(path)
    document = _object(document, {"default", "transports"}, where)
    if "default" not in document:
        raise UsageError(f"{where}: default is missing", hint="containers' form demands one, as reject or accept")
    transports = document.get("transports", {})
    if not isinstance(transports, dict):
        raise UsageError(f"{where}: transports must be an object")
    scopes = {name: _scopes(found, f"{where}: {name}") for name, found in transports.items()}
    return Policy(where, scopes, _requirements(document["default"], f"{where}: default"))


def _scopes(found: Any, where: str) -> dict[str, tuple[Requirement, ...]]:
    if not isinstance(found, dict):
        raise UsageError(f"{where} must be an object")
    return {scope: _requirements(one, f"{where}: {scope or 'everything else'}") for scope, one in found.items()}


def _requirements(found: Any, where: str) -> tuple[Requirement, ...]:
    if not isinstance(found, list) or not found:
        raise UsageError(f"{where}: must be a list of requirements that is not empty")
    return tuple(_requirement(one, where) for one in found)


def _requirement(found: Any, where: str) -> Requirement:
    kind = found.get("type") if isinstance(found, dict) else None
    if kind == "insecureAcceptAnything":
        _object(found, {"type"}, where)
        return Requirement(ACCEPT)
    if kind == "reject":
        _object(found, {"type"}, where)
        return Requirement(REJECT)
    if kind in ("signedBy", "signedBaseLayer"):
        return Requirement(UNREADABLE, why=f"{kind} asks for a GPG signature, which knarr does not check")
    if kind == "sigstoreSigned":
        return _sigstore(_object(found, _SIGSTORE, where), where)
    raise UsageError(f"{where}: requirement {kind!r} is not known")


def _sigstore(found: dict[str, Any], where: str) -> Requirement:
    given = [name for name in _SOURCES if name in found]
    if len(given) != 1:
        raise UsageError(f"{where}: sigstoreSigned needs exactly one of {', '.join(_SOURCES)}")
    if given[0] in ("fulcio", "pki"):
        why = f"sigstoreSigned with {given[0]} is not checked here; a policy of knarr's own can name a trusted root"
        return Requirement(UNREADABLE, why=why)
    if any(name.startswith("rekor") for name in found):
        why = "sigstoreSigned with a key and a transparency log is not checked here"
        return Requirement(UNREADABLE, why=why)
    keys = _keys(found[given[0]], given[0], where)
    return Requirement(SIGNED, Wish(keys, name=_identity(found.get("signedIdentity"), where)))


def _keys(value: Any, kind: str, where: str) -> tuple[PublicKey, ...]:
    from knarr.trust.policyfile import read_file

    words = value if kind.endswith("s") else [value]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{where}: {kind} is malformed")
    if kind.startswith("keyPath"):
        return tuple(PublicKey.parse(read_file(Path(word)), name=word) for word in words)
    try:
        return tuple(PublicKey.parse(base64.b64decode(word, validate=True), name=f"{where}: {kind}") for word in words)
    except binascii.Error:
        raise UsageError(f"{where}: {kind} is not base64") from None


def _identity(found: Any, where: str) -> NameRule:
    if found is None:
        return NameRule(TAG_OR_REPOSITORY)
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in _IDENTITIES:
        raise UsageError(f"{where}: signedIdentity {kind!r} is not known")
    members = _IDENTITIES[kind]
    _object(found, {"type", *members}, where)
    values = [found.get(name) for name in members]
    if not all(isinstance(value, str) and value for value in values):
        raise UsageError(f"{where}: signedIdentity {kind} needs {' and '.join(members)}")
    return NameRule(kind, *(str(value) for value in values))


def _object(found: Any, members: set[str], where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise UsageError(f"{where}: must be an object")
    for name in found:
        if name not in members:
            raise UsageError(f"{where}: {name!r} is not known", hint=f"known are: {', '.join(sorted(members))}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member occurs twice")
    return found
