"""Types of predicates by the short names that cosign has for them, and a few words on what one says."""

from __future__ import annotations

from typing import Any

CUSTOM = "https://cosign.sigstore.dev/attestation/v1"
SHORT_NAMES = {
    "custom": CUSTOM,
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "openvex": "https://openvex.dev/ns",
    "link": "https://in-toto.io/Link/v1",
}
_MOST_SHOWN = 20


def full_type(word: str) -> str:
    """The predicate type that a short name stands for; any other word is one itself."""
    return SHORT_NAMES.get(word, word)


def summary(predicate_type: str, predicate: Any) -> list[str]:
    """What a predicate says, in a few lines for people; nothing for types that are not known."""
    if not isinstance(predicate, dict):
        return []
    if predicate_type == SHORT_NAMES["slsaprovenance1"]:
        return _provenance_1(predicate)
    if predicate_type == SHORT_NAMES["slsaprovenance"]:
        return _provenance_02(predicate)
    if predicate_type == SHORT_NAMES["spdx"]:
        return _counted(predicate.get("packages"), "package", "versionInfo")
    if predicate_type.startswith(SHORT_NAMES["cyclonedx"]):
        return _counted(predicate.get("components"), "component", "version")
    return []


def _provenance_1(predicate: dict[str, Any]) -> list[str]:
    definition, details = _table(predicate, "buildDefinition"), _table(predicate, "runDetails")
    materials = definition.get("resolvedDependencies")
    lines = _facts(
        ("build type", definition.get("buildType")),
        ("builder", _table(details, "builder").get("id")),
        ("started", _table(details, "metadata").get("startedOn")),
        ("finished", _table(details, "metadata").get("finishedOn")),
    )
    return lines + _materials(materials)


def _provenance_02(predicate: dict[str, Any]) -> list[str]:
    metadata = _table(predicate, "metadata")
    lines = _facts(
        ("build type", predicate.get("buildType")),
        ("builder", _table(predicate, "builder").get("id")),
        ("started", metadata.get("buildStartedOn")),
        ("finished", metadata.get("buildFinishedOn")),
    )
    return lines + _materials(predicate.get("materials"))


def _materials(found: Any) -> list[str]:
    materials = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    lines = [f"material    {one.get('uri')}{_digest(one)}" for one in materials[:_MOST_SHOWN]]
    return lines + _more(len(materials), "materials")


def _counted(found: Any, what: str, version: str) -> list[str]:
    things = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    named = [f"{one.get('name')} {one.get(version) or ''}".rstrip() for one in things]
    lines = [f"{len(things)} {what}{'' if len(things) == 1 else 's'}", *(f"  {name}" for name in named[:_MOST_SHOWN])]
    return lines + _more(len(named), f"{what}s")


def _more(count: int, what: str) -> list[str]:
    return [f"  and {count - _MOST_SHOWN} {what} more"] if count > _MOST_SHOWN else []


def _digest(material: dict[str, Any]) -> str:
    return "".join(f"  {name}:{value}" for name, value in _table(material, "digest").items())


def _facts(*facts: tuple[str, Any]) -> list[str]:
    return [f"{name:<11} {value}" for name, value in facts if value]


def _table(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}
