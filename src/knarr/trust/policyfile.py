"""A trust policy in knarr's own form, TOML; containers' policy.json is read as well.

    default = "reject"

    [[rule]]
    images = ["registry.example/team", "*.corp.example"]
    keys = ["release.pub"]              # beside the policy
    attestations = ["https://slsa.dev/provenance/v1"]

    [[rule]]
    images = ["docker.io/library"]
    accept = true

Documented in docs/guide/signing.md.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from knarr.attest.judge import Wish
from knarr.attest.keyless import Identity, Keyless
from knarr.attest.keys import PublicKey
from knarr.attest.naming import ANY, EXACT, REPOSITORY, TAG_OR_REPOSITORY, NameRule
from knarr.errors import KnarrError, UsageError
from knarr.spec.reference import Reference
from knarr.trust.policy import ACCEPT, DOCKER, OCI, OCI_ARCHIVE, REJECT, SIGNED, Policy, Requirement

_MEMBERS = ("default", "rule")
_RULE = (
    *("images", "accept", "reject", "keys", "identities", "trusted-root", "threshold", "annotations", "name"),
    "attestations",
)
_IDENTITY = ("subject", "subject-pattern", "issuer", "issuer-pattern")
_NAMES = {"any": ANY, "repository": REPOSITORY, "exact": EXACT, "tag-or-repository": TAG_OR_REPOSITORY}
_MOST_BYTES = 1 << 20


def read(path: Path) -> Policy:
    """The policy of a file: JSON is containers' form, all else ours.

    Raises:
        UsageError: it cannot be read, or says something that cannot be meant.
    """
    data = read_file(path)
    if data.lstrip().startswith(b"{"):
        from knarr.trust.containerspolicy import parse

        return parse(data, path)
    try:
        document = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    return _policy(document, path)


def read_file(path: Path) -> bytes:
    """The bytes of a policy or of a file that it names.

    Raises:
        UsageError: they cannot be read, or are too many.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path}: is larger than {_MOST_BYTES} bytes")
    return data


def _policy(document: dict[str, Any], path: Path) -> Policy:
    _known(document, _MEMBERS, str(path))
    default = document.get("default", REJECT)
    if default not in (ACCEPT, REJECT):
        raise UsageError(f"{path}: default {default!r}: not known", hint="write accept or reject")
    scopes: dict[str, dict[str, tuple[Requirement, ...]]] = {}
    rules = document.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise UsageError(f"{path}: rules are written as [[rule]]")
    for number, rule in enumerate(rules, 1):
        where = f"{path}: rule {number}"
        requirements = _requirements(rule, path, where)
        for word in _texts(rule, "images", where) or _missing(where, "images"):
            transport, scope = _scope(word, where)
            if scope in scopes.setdefault(transport, {}):
                raise UsageError(f"{where}: an earlier rule speaks of {word} already")
            scopes[transport][scope] = requirements
    return Policy(str(path), scopes, (Requirement(default),))


def _scope(word: str, where: str) -> tuple[str, str]:
    """Transport and scope of a word of `images`. `*`: every image of a registry."""
    transport, colon, rest = word.partition(":")
    if colon and transport in (OCI, OCI_ARCHIVE) and rest.startswith("/"):
        return transport, rest.rstrip("/")
    if word == "*":
        return DOCKER, ""
    if colon and transport in (OCI, OCI_ARCHIVE) and rest == "*":
        return transport, ""
    scope = word.removesuffix("/*")
    if "*" in scope.removeprefix("*.") or not scope or "//" in scope:
        raise UsageError(
            f"{where}: images: {word!r} is no scope",
            hint="write host/namespace, host/app, host/app:tag, *.domain, oci:/path, oci:*, or * for all registries",
        )
    if "/" in scope and not scope.startswith("*."):
        _check_name(scope, where)
    return DOCKER, scope


def _check_name(scope: str, where: str) -> None:
    """A name that docker would complete is not what it seems: `busybox` is `docker.io/library/busybox`."""
    host = scope.partition("/")[0]
    if "." not in host and ":" not in host and host != "localhost":
        raise UsageError(f"{where}: images: {scope!r} names no registry", hint=f"write docker.io/{scope}")
    try:
        Reference.parse(scope)
    except KnarrError as error:
        raise UsageError(f"{where}: images: {error.message}") from None


def _requirements(rule: dict[str, Any], path: Path, where: str) -> tuple[Requirement, ...]:
    _known(rule, _RULE, where)
    asked = {"keys", "identities"} & set(rule)
    kinds = [kind for kind in (ACCEPT, REJECT) if _switch(rule, kind, where)]
    if len(kinds) + bool(asked) != 1:
        raise UsageError(f"{where}: needs exactly one of accept, reject, or keys and identities")
    if kinds:
        return (Requirement(kinds[0]),)
    wish = _wish(rule, path, where)
    attested = _texts(rule, "attestations", where)
    more = tuple(
        Requirement(SIGNED, Wish(wish.keys, wish.keyless, threshold=wish.threshold, predicate_type=kind))
        for kind in attested
    )
    return (Requirement(SIGNED, wish), *more)


def _wish(rule: dict[str, Any], path: Path, where: str) -> Wish:
    keys = tuple(PublicKey.parse(read_file(path.parent / word), name=word) for word in _texts(rule, "keys", where))
    identities = _identities(rule, where)
    keyless = None
    if identities:
        root = _text(rule, "trusted-root", where) or _missing(where, "trusted-root")[0]
        keyless = Keyless(read_file(path.parent / root).decode("utf-8", "replace"), identities, root)
    if not keys and keyless is None:
        raise UsageError(f"{where}: keys is empty, so nothing would be accepted", hint="write reject = true")
    threshold = rule.get("threshold", 1)
    if not isinstance(threshold, int) or isinstance(threshold, bool) or not 1 <= threshold <= 100:
        raise UsageError(f"{where}: threshold must be a number of signers")
    if not identities and threshold > len({key.fingerprint for key in keys}):
        raise UsageError(f"{where}: threshold is {threshold}, and there are only {len(keys)} keys")
    name = _text(rule, "name", where) or "any"
    if name not in _NAMES:
        raise UsageError(f"{where}: name {name!r}: not known", hint=f"use one of: {', '.join(_NAMES)}")
    annotations = rule.get("annotations", {})
    if not isinstance(annotations, dict) or not all(isinstance(value, str) for value in annotations.values()):
        raise UsageError(f"{where}: annotations must be a table of texts")
    return Wish(keys, keyless, annotations, NameRule(_NAMES[name]), threshold=threshold)


def _identities(rule: dict[str, Any], where: str) -> tuple[Identity, ...]:
    given = rule.get("identities", [])
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise UsageError(f"{where}: identities must be a list of tables")
    found = []
    for one in given:
        _known(one, _IDENTITY, f"{where}: identities")
        subject, subjects, issuer, issuers = (_text(one, name, where) for name in _IDENTITY)
        if not (subject or subjects) or not (issuer or issuers):
            raise UsageError(f"{where}: an identity needs a subject and an issuer, or patterns of them")
        for pattern in (subjects, issuers):
            check_pattern(pattern, where)
        found.append(Identity(subject, subjects, issuer, issuers))
    return tuple(found)


def check_pattern(pattern: str, where: str) -> None:
    """Raises:
    UsageError: `pattern` is no regular expression.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{where}: {pattern!r} is no regular expression: {error}") from None


def _known(table: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in names:
            raise UsageError(f"{where}: {name!r} is not known", hint=f"known are: {', '.join(names)}")


def _text(table: dict[str, Any], name: str, where: str) -> str:
    value = table.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}: {name} must be a text")
    return value


def _texts(table: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{where}: {name} must be a list of texts")
    return tuple(value)


def _switch(table: dict[str, Any], name: str, where: str) -> bool:
    value = table.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{where}: {name} must be true or false")
    return value


def _missing(where: str, name: str) -> tuple[str, ...]:
    raise UsageError(f"{where}: {name} is missing")
