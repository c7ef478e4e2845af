"""An inventory as an SPDX 2.3 document in JSON, a piece at a time.

The same findings give the same bytes. A package CONTAINS its files and
DEPENDS_ON other packages; the document DESCRIBES what was scanned. As in the
documents of BuildKit, a file's comment names the layer that brought it.

Specification: SPDX 2.3; its JSON schema, and the rules that the schema cannot say
(verification codes, identifiers) as spdx-tools checks them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from knarr.sbom.about import About, dependencies, identifier, serial, version
from knarr.sbom.licenses import expression, in_line
from knarr.sbom.package import FileFact, Inventory, Package
from knarr.sbom.purl import purl_of

PREDICATE = "https://spdx.dev/Document"
ENDING = "spdx.json"
_ROOT = "SPDXRef-DocumentRoot"
_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")
_NOTHING = "NOASSERTION"
_ADDRESS = re.compile(r"^(.*?)\s*<([^<>]+)>$")
URL = re.compile(
    r"^https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}(?::\d{1,5})?(?:/[!#$%&'()*+,./0-9:;=?@A-Z_a-z~-]*)?$"
)


def write(inventory: Inventory, about: About) -> Iterator[bytes]:
    """The document, in pieces of at most a few kilobytes."""
    yield from (piece.encode("utf-8", "replace") for piece in _pieces(inventory, about))


def _pieces(inventory: Inventory, about: About) -> Iterator[str]:
    number = serial(inventory, about)
    head = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": about.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{_UNFIT.sub('-', about.name)[:100]}-{number}",
        "creationInfo": {"creators": [f"Tool: knarr-{version()}"], "created": about.created},
    }
    notes = [f"not read: {one.path or '/'}: {one.reason}" for one in inventory.skipped]
    if notes:
        head["comment"] = "\n".join(notes)
    yield json.dumps(head)[:-1]
    references: dict[str, str] = {}
    yield ', "packages": ['
    yield from listed(_packages(inventory, about, references))
    files = inventory.files if about.with_files else {}
    if files:
        yield '], "files": ['
        yield from listed(_file(path, fact, about) for path, fact in files.items())
    if references:
        yield '], "hasExtractedLicensingInfos": ['
        yield from listed(
            {"licenseId": name, "extractedText": text, "name": text} for name, text in sorted(references.items())
        )
    yield '], "relationships": ['
    yield from listed(_relationships(inventory, about))
    yield "]}\n"


def listed(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The items of a JSON list, without its brackets, each on a line."""
    for number, item in enumerate(items):
        yield (",\n" if number else "\n") + json.dumps(item)


def _packages(inventory: Inventory, about: About, references: dict[str, str]) -> Iterator[dict[str, Any]]:
    root: dict[str, Any] = {
        "name": about.name,
        "SPDXID": _ROOT,
        "downloadLocation": _NOTHING,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER" if about.kind == "container" else "FILE",
    }
    yield root | ({"versionInfo": about.version} if about.version else {})
    for number, package in enumerate(inventory.packages):
        yield _package(package, inventory, number, about, references)


def _package(
    package: Package, inventory: Inventory, number: int, about: About, references: dict[str, str]
) -> dict[str, Any]:
    licenses, found = expression(package.licenses)
    references |= found
    own = inventory.owners[number] if about.with_files else ()
    data: dict[str, Any] = {"name": package.name, "SPDXID": _id(package)}
    if package.version:
        data["versionInfo"] = package.version
    supplier = _party(package.supplier)
    if supplier:
        data["supplier"] = supplier
    data["downloadLocation"] = _NOTHING
    data["filesAnalyzed"] = bool(own)
    if own:
        data["packageVerificationCode"] = {
            "packageVerificationCodeValue": _verification_code(inventory.files[path] for path in own)
        }
    if URL.match(package.homepage):
        data["homepage"] = package.homepage
    data["sourceInfo"] = f"found by knarr's {package.kind} cataloger in: {', '.join(package.evidence)}"
    data["licenseConcluded"] = _NOTHING
    data["licenseDeclared"] = licenses or _NOTHING
    if package.license_files:
        data["licenseComments"] = f"licence file: {', '.join(package.license_files)}"
    data["copyrightText"] = _NOTHING
    if package.summary:
        data["summary"] = package.summary
    purl = purl_of(package, inventory.distribution)
    data["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}]
    return data


def _verification_code(facts: Iterable[FileFact]) -> str:
    """SPDX 2.3, clause 7.9: SHA-1 over the sorted SHA-1s of all files."""
    joined = "".join(sorted(fact.sha1 for fact in facts))
    return hashlib.sha1(joined.encode(), usedforsecurity=False).hexdigest()


def _party(text: str) -> str:
    """A supplier: SPDX wants to know whether it is a person. Whoever has an address may be a team, too."""
    line = in_line(text.replace("(", "[").replace(")", "]"))
    match = _ADDRESS.match(line)
    if match:
        name = match[1].strip("' \"")
        return f"Person: {name} ({match[2]})" if name else f"Person: {match[2]}"
    return f"Organization: {line}" if line else ""


def _file(path: str, fact: FileFact, about: About) -> dict[str, Any]:
    data: dict[str, Any] = {
        "fileName": path,
        "SPDXID": _file_id(path),
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": fact.sha1},
            {"algorithm": "SHA256", "checksumValue": fact.sha256},
        ],
        "licenseConcluded": _NOTHING,
        "licenseInfoInFiles": [_NOTHING],
        "copyrightText": _NOTHING,
    }
    layer = about.layers.get(path)
    return data | ({"comment": f"layerID: {layer}"} if layer else {})


def _relationships(inventory: Inventory, about: About) -> Iterator[dict[str, str]]:
    yield _related("SPDXRef-DOCUMENT", "DESCRIBES", _ROOT)
    ids = [_id(package) for package in inventory.packages]
    for one in ids:
        yield _related(_ROOT, "CONTAINS", one)
    for number, own in enumerate(inventory.owners if about.with_files else ()):
        for path in own:
            yield _related(ids[number], "CONTAINS", _file_id(path))
    for number, needed in dependencies(inventory).items():
        for other in needed:
            yield _related(ids[number], "DEPENDS_ON", ids[other])


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}


def _id(package: Package) -> str:
    return f"SPDXRef-Package-{identifier('spdx', package)}"


def _file_id(path: str) -> str:
    return f"SPDXRef-File-{hashlib.sha256(path.encode('utf-8', 'replace')).hexdigest()[:16]}"
