"""What a document says besides the findings: its name, its time, its tool; and the layers that files came with."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from knarr.record import field, record
from knarr.sbom.package import Inventory, Package

_NAMESPACE = uuid.UUID("6f1ff6a5-8a49-5c6f-9a0a-2f3f9a7d1d55")
_UNFIT = re.compile(r"[^A-Za-z0-9.-]+")


@record
class About:
    """What a document is about."""

    name: str  # of what was scanned
    created_s: int  # seconds since 1970: SOURCE_DATE_EPOCH, or now
    layers: Mapping[str, str] = field(default_factory=dict, hash=False)  # path → digest of the layer that has the file
    version: str = ""  # the digest of an image
    with_files: bool = True
    kind: str = "container"  # or `directory`

    @property
    def created(self) -> str:
        """The time as both formats want it."""
        return datetime.fromtimestamp(self.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=1)
def version() -> str:
    """The version of this knarr."""
    from importlib.metadata import version

    return version("knarr")


def serial(inventory: Inventory, about: About) -> uuid.UUID:
    """A name for the document that is the same for the same findings: nothing random is in it."""
    told = hashlib.sha256()
    for part in (about.name, about.created, about.version, str(about.with_files), version()):
        told.update(part.encode("utf-8", "replace") + b"\0")
    for package in inventory.packages:
        told.update(repr(package).encode("utf-8", "replace"))
    for path, fact in inventory.files.items():
        told.update(f"{path}\0{fact.sha256}\0{about.layers.get(path, '')}".encode("utf-8", "replace"))
    return uuid.uuid5(_NAMESPACE, told.hexdigest())


def identifier(kind: str, package: Package) -> str:
    """A short name of a package that is unique in a document and the same in each."""
    parts = (kind, package.kind, package.namespace, package.name, package.version, package.architecture)
    told = json.dumps([*parts, *package.evidence[:1]])
    stem = _UNFIT.sub("-", f"{package.kind}-{package.name}")[:100]
    return f"{stem}-{hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:16]}"


def dependencies(inventory: Inventory) -> dict[int, list[int]]:
    """For each package the numbers of the packages it needs, as far as they are in the tree."""
    givers: dict[tuple[str, str, str], int] = {}
    for number, package in enumerate(inventory.packages):
        givers.setdefault((package.kind, package.root, _comparable(package, package.name)), number)
    for number, package in enumerate(inventory.packages):
        for name in package.provides:
            givers.setdefault((package.kind, package.root, name), number)
    needed: dict[int, list[int]] = {}
    for number, package in enumerate(inventory.packages):
        if package.kind == "npm":
            continue  # which of several versions is meant depends on where it lies
        found = dict.fromkeys(
            giver
            for names in package.requires
            for name in names.split("|")
            if (giver := givers.get((package.kind, package.root, _comparable(package, name)))) is not None
            and giver != number
        )
        if found:
            needed[number] = sorted(found)
    return needed


def _comparable(package: Package, name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if package.kind == "pypi" else name
