"""Packages of Python: `*.dist-info/METADATA`, `*.egg-info/PKG-INFO`, and `*.egg-info` files.

Formats: PyPA's core metadata 2.4, and its record of installed files (RECORD).
"""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterator

from knarr.sbom.fields import paragraphs
from knarr.sbom.package import Package
from knarr.sbom.tree import Tree

_CLASSIFIER = re.compile(r"^License :: (?:OSI Approved :: )?(.+)$")
_REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")
_SHORT = 100  # characters: License of older metadata may hold a whole text


def is_metadata(path: str) -> bool:
    """Whether `path` is a file that tells of an installed distribution."""
    parent, _, name = path.rpartition("/")
    if name == "METADATA":
        return parent.endswith(".dist-info")
    return name.endswith(".egg-info") or (name == "PKG-INFO" and parent.endswith((".egg-info", "/EGG-INFO")))


def read(tree: Tree, path: str) -> Iterator[Package]:
    """The distribution that the metadata at `path` is about."""
    text = tree.text(path)
    if text is None:
        return
    head = text.partition("\n\n")[0]  # behind it comes the description, which may look like anything
    found = next(paragraphs(head), {})
    name, version = found.get("name", ""), found.get("version", "")
    if not name:
        tree.skip(path, "no name")
        return
    many = _repeated(head)
    own = posixpath.dirname(path) if path.endswith(("/METADATA", "/PKG-INFO")) else ""
    yield Package(
        "pypi",
        name,
        version,
        licenses=_licenses(found, many),
        license_files=tuple(one for file in many.get("license-file", []) if (one := _license_file(tree, own, file))),
        supplier=_supplier(found),
        homepage=found.get("home-page", "").replace("UNKNOWN", "") or _project_url(many.get("project-url", [])),
        summary=found.get("summary", "").partition("\n")[0],
        evidence=(path,),
        files=_files(tree, own) if path.endswith("/METADATA") else (),
        requires=tuple(dict.fromkeys(_required(many.get("requires-dist", [])))),
    )


def _repeated(head: str) -> dict[str, list[str]]:
    """Fields that may come several times."""
    found: dict[str, list[str]] = {}
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if colon and name[:1].isalpha():
            found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def _licenses(found: dict[str, str], many: dict[str, list[str]]) -> tuple[str, ...]:
    if found.get("license-expression"):
        return (found["license-expression"],)
    matches = [match[1] for line in many.get("classifier", []) if (match := _CLASSIFIER.match(line))]
    matches = [text for text in matches if text != "OSI Approved"]
    if matches:
        return tuple(dict.fromkeys(matches))
    text = found.get("license", "")
    return (text,) if 0 < len(text) <= _SHORT and "\n" not in text and text != "UNKNOWN" else ()


def _license_file(tree: Tree, own: str, name: str) -> str:
    """Where a licence file is: in `licenses` since metadata 2.4, before beside the metadata."""
    places = (posixpath.normpath(f"{own}/{below}{name}") for below in ("licenses/", ""))
    return next((one for one in places if one.startswith(f"{own}/") and tree.is_file(one)), "") if own else ""


def _supplier(found: dict[str, str]) -> str:
    for who in ("author", "maintainer"):
        name, address = found.get(who, ""), found.get(f"{who}-email", "")
        name = "" if name == "UNKNOWN" else name.partition("\n")[0]
        if name and address and "<" not in address and "," not in address:
            return f"{name} <{address}>"
        if name or address:
            return name or address
    return ""


def _project_url(lines: list[str]) -> str:
    pairs = [line.partition(",") for line in lines]
    named = {label.strip().lower(): url.strip() for label, _, url in pairs}
    return next((named[label] for label in ("homepage", "home", "source", "repository") if named.get(label)), "")


def _required(lines: list[str]) -> Iterator[str]:
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match and "extra ==" not in line:
            yield normalised(match[0])


def normalised(name: str) -> str:
    """A distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(tree: Tree, own: str) -> tuple[str, ...]:
    data = tree.read(f"{own}/RECORD", tree.limits.lock)
    if data is None:
        return ()
    site, found = posixpath.dirname(own), []
    try:
        for row in csv.reader(data.decode("utf-8", "surrogateescape").splitlines()):
            if row and not row[0].startswith("/"):
                found.append(posixpath.normpath(f"{site}/{row[0]}" if site else row[0]))
    except csv.Error as error:
        tree.skip(f"{own}/RECORD", str(error))
    return tuple(one for one in found if not one.startswith("../"))
