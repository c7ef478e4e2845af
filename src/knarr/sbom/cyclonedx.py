"""An inventory as a CycloneDX document in JSON, a piece at a time. Specification: CycloneDX 1.6 and 1.5 (ECMA-424)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from knarr.sbom.about import About, dependencies, identifier, serial
from knarr.sbom.about import version as own_version
from knarr.sbom.licenses import expression, is_known
from knarr.sbom.package import Inventory, Package
from knarr.sbom.purl import purl_of
from knarr.sbom.spdx import URL, listed

PREDICATE = "https://cyclonedx.org/bom"
ENDING = "cdx.json"
VERSIONS = ("1.6", "1.5")


def write(inventory: Inventory, about: About, *, version: str = "1.6") -> Iterator[bytes]:
    """The document, in pieces of at most a few kilobytes. Files of packages are not in it: their packages are."""
    yield from (piece.encode("utf-8", "replace") for piece in _pieces(inventory, about, version))


def _pieces(inventory: Inventory, about: About, version: str) -> Iterator[str]:
    root = {"type": about.kind if about.kind == "container" else "file", "bom-ref": "root", "name": about.name}
    head: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{version}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": version,
        "serialNumber": f"urn:uuid:{serial(inventory, about)}",
        "version": 1,
        "metadata": {
            "timestamp": about.created,
            "tools": {"components": [{"type": "application", "name": "knarr", "version": own_version()}]},
            "component": root | ({"version": about.version} if about.version else {}),
        },
    }
    if inventory.skipped:
        head["metadata"]["properties"] = [
            {"name": "knarr:not-read", "value": f"{one.path or '/'}: {one.reason}"} for one in inventory.skipped
        ]
    yield json.dumps(head)[:-1]
    yield ', "components": ['
    yield from listed(_component(package, inventory, about) for package in inventory.packages)
    yield '], "dependencies": ['
    yield from listed(_dependencies(inventory))
    yield "]}\n"


def _component(package: Package, inventory: Inventory, about: About) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": "library",
        "bom-ref": _ref(package),
        "name": package.name,
        "purl": purl_of(package, inventory.distribution),
    }
    for key, value in (
        ("group", package.namespace if package.kind in ("npm", "maven", "golang") else ""),
        ("version", package.version),
        ("description", package.summary),
        ("publisher", package.supplier),
    ):
        if value:
            data[key] = value
    licenses = _licenses(package)
    if licenses:
        data["licenses"] = licenses
    if URL.match(package.homepage):
        data["externalReferences"] = [{"type": "website", "url": package.homepage}]
    data["properties"] = [*_properties(package, about)]
    return data


def _licenses(package: Package) -> list[dict[str, Any]]:
    """One identifier, one name, or one expression."""
    text, references = expression(package.licenses)
    if not text:
        return []
    if is_known(text):
        return [{"license": {"id": text}}]
    if text in references:
        return [{"license": {"name": references[text]}}]
    return [{"expression": text}]


def _properties(package: Package, about: About) -> Iterator[Mapping[str, str]]:
    yield {"name": "knarr:cataloger", "value": package.kind}
    for path in package.evidence:
        yield {"name": "knarr:evidence", "value": path}
        if path in about.layers:
            yield {"name": "knarr:layer", "value": about.layers[path]}
    for path in package.license_files:
        yield {"name": "knarr:license-file", "value": path}
    for key, value in (("source", package.source), ("source-version", package.source_version)):
        if value:
            yield {"name": f"knarr:{key}", "value": value}


def _dependencies(inventory: Inventory) -> Iterator[dict[str, Any]]:
    refs = [_ref(package) for package in inventory.packages]
    yield {"ref": "root", "dependsOn": refs} if refs else {"ref": "root"}
    for number, needed in dependencies(inventory).items():
        yield {"ref": refs[number], "dependsOn": [refs[other] for other in needed]}


def _ref(package: Package) -> str:
    return identifier("cyclonedx", package)
