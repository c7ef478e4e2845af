"""What a scan finds, as records: packages, their files, and what was passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knarr.record import field, fields, record


@record
class Package:
    """One piece of software, as its installer or its compiler noted it.

    Paths are those inside of the tree, without a leading slash.
    """

    kind: str  # the type of its package URL: deb, apk, rpm, pypi, npm, golang, maven, gem, cargo
    name: str
    version: str = ""
    namespace: str = ""  # of its package URL: the distribution, the group, the scope
    architecture: str = ""
    source: str = ""  # the source package, where it is called otherwise
    source_version: str = ""
    licenses: tuple[str, ...] = ()  # as the package says it
    license_files: tuple[str, ...] = ()
    supplier: str = ""  # a person or an organisation, perhaps with an address
    homepage: str = ""
    summary: str = ""
    evidence: tuple[str, ...] = ()  # the files that tell of it
    files: tuple[str, ...] = ()  # that belong to it, as its database has them
    requires: tuple[str, ...] = ()  # names, each with its alternatives: "a|b"
    provides: tuple[str, ...] = ()
    qualifiers: tuple[tuple[str, str], ...] = ()  # more of its package URL
    root: str = ""  # the directory that its paths begin at, where that is not the tree's own


@record
class FileFact:
    """A regular file of the tree."""

    size: int
    sha1: str
    sha256: str


@record
class Distribution:
    """What os-release says of the tree: empty where there is none."""

    id: str = ""
    version: str = ""
    like: str = ""
    name: str = ""


@record
class Skipped:
    """Something that was not read, or not whole, and why."""

    path: str
    reason: str


@record
class Inventory:
    """All that a scan found, in a fixed order."""

    packages: tuple[Package, ...] = ()
    files: Mapping[str, FileFact] = field(default_factory=dict, hash=False)  # that packages own, by real path
    owners: tuple[tuple[str, ...], ...] = ()  # of each package, the real paths of its files
    distribution: Distribution = Distribution()
    skipped: tuple[Skipped, ...] = ()
    scanned_s: int = 0  # seconds since 1970, where whoever asked for it noted when


def to_json(inventory: Inventory) -> dict[str, Any]:
    """The inventory as plain data, to be kept; `from_json` reads it back."""
    return {
        "packages": [_plain(package) for package in inventory.packages],
        "files": {path: [fact.size, fact.sha1, fact.sha256] for path, fact in inventory.files.items()},
        "owners": [list(paths) for paths in inventory.owners],
        "distribution": _plain(inventory.distribution),
        "skipped": [_plain(one) for one in inventory.skipped],
        "scanned_s": inventory.scanned_s,
    }


def from_json(data: Mapping[str, Any]) -> Inventory:
    """What `to_json` made.

    Raises:
        KeyError, TypeError, ValueError: it was something else.
    """
    packages = tuple(Package(**{name: _frozen(value) for name, value in one.items()}) for one in data["packages"])
    return Inventory(
        packages,
        {path: FileFact(int(size), str(sha1), str(sha256)) for path, (size, sha1, sha256) in data["files"].items()},
        tuple(tuple(paths) for paths in data["owners"]),
        Distribution(**data["distribution"]),
        tuple(Skipped(**one) for one in data["skipped"]),
        int(data["scanned_s"]),
    )


def _plain(value: Any) -> dict[str, Any]:
    """The fields that say something."""
    return {name: found for name in fields(value) if (found := getattr(value, name))}


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
