"""What other registries have on their disks: distribution's layout (v2) and zot's, read and never written.

distribution keeps every blob once and links to it from each repository; zot keeps
an OCI layout for each repository. Both come out as `Holding`s.

Spec: distribution, "registry/storage/paths.go" of 2.8 and 3.1; image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from knarr.errors import ContentError, UsageError
from knarr.record import record
from knarr.registry.routes import is_name, is_tag
from knarr.spec.digest import Digest

_V2 = Path("docker/registry/v2")
_MOST_JSON = 64 << 20  # bytes of an index.json


@record
class Holding:
    """One repository: where the bytes of its blobs and manifests are, and its tags."""

    name: str
    blobs: Mapping[Digest, Path]
    manifests: Mapping[Digest, Path]
    tags: Mapping[str, Digest]


def holdings(directory: Path) -> Iterator[Holding]:
    """The repositories under `directory`, by name.

    Raises:
        UsageError: it is neither layout.
    """
    for root in (directory / _V2, directory / "registry/v2", directory):
        if (root / "repositories").is_dir() and (root / "blobs").is_dir():
            yield from _distribution(root)
            return
    found = False
    for holding in _layouts(directory):
        found = True
        yield holding
    if not found:
        raise UsageError(
            f"{directory} holds no registry that is known here",
            hint="give the rootdirectory of a distribution registry, or of a zot",
        )


def _distribution(root: Path) -> Iterator[Holding]:
    top = root / "repositories"
    for place, directories, _ in os.walk(top):
        if "_manifests" not in directories and "_layers" not in directories:
            directories.sort()
            continue
        here = Path(place)
        directories[:] = sorted(name for name in directories if not name.startswith("_"))
        name = here.relative_to(top).as_posix()
        if not is_name(name):
            continue
        manifests = dict(_links(root, here / "_manifests/revisions"))
        layers = dict(_links(root, here / "_layers"))
        tags = {}
        for tag in sorted(_listed(here / "_manifests/tags")):
            digest = _link(here / "_manifests/tags" / tag / "current/link")
            if is_tag(tag) and digest is not None:
                tags[tag] = digest
        yield Holding(name, layers, manifests, tags)


def _links(root: Path, place: Path) -> Iterator[tuple[Digest, Path]]:
    """Each digest that is linked under `place`, and the file that has its bytes."""
    for algorithm in sorted(_listed(place)):
        for hexadecimal in sorted(_listed(place / algorithm)):
            digest = _link(place / algorithm / hexadecimal / "link")
            if digest is not None:
                yield digest, root / "blobs" / digest.algorithm / digest.hex[:2] / digest.hex / "data"


def _link(file: Path) -> Digest | None:
    """The digest a link names; None where it was deleted."""
    try:
        return Digest.parse(file.read_text().strip())
    except (OSError, ContentError, UnicodeDecodeError):
        return None


def _layouts(directory: Path) -> Iterator[Holding]:
    for place, directories, files in os.walk(directory):
        if "index.json" not in files or "oci-layout" not in files:
            directories[:] = sorted(name for name in directories if not name.startswith((".", "_")))
            continue
        here = Path(place)
        directories[:] = sorted(name for name in directories if name != "blobs" and not name.startswith((".", "_")))
        name = here.relative_to(directory).as_posix()
        if is_name(name):
            yield _layout(name, here)


def _layout(name: str, place: Path) -> Holding:
    files: dict[Digest, Path] = {}
    for algorithm in sorted(_listed(place / "blobs")):
        for hexadecimal in sorted(_listed(place / "blobs" / algorithm)):
            try:
                files[Digest.parse(f"{algorithm}:{hexadecimal}")] = place / "blobs" / algorithm / hexadecimal
            except ContentError:
                continue
    manifests: dict[Digest, Path] = {}
    tags: dict[str, Digest] = {}
    todo = _described(place / "index.json")
    while todo:
        digest, tag = todo.pop()
        if digest not in files:
            continue
        if tag:
            tags[tag] = digest
        if digest not in manifests:
            manifests[digest] = files[digest]
            todo += _described(files[digest])
    blobs = {digest: path for digest, path in files.items() if digest not in manifests}
    return Holding(name, blobs, manifests, tags)


def _described(file: Path) -> list[tuple[Digest, str]]:
    """The manifests an index names, with their tags; [] for what is no index."""
    try:
        if file.stat().st_size > _MOST_JSON:
            return []
        document = json.loads(file.read_bytes())
        listed = document.get("manifests") or []
        found = []
        for item in listed:
            tag = (item.get("annotations") or {}).get("org.opencontainers.image.ref.name", "")
            found.append((Digest.parse(item["digest"]), tag if is_tag(tag) else ""))
    except (OSError, ValueError, AttributeError, KeyError, TypeError, ContentError):
        return []
    return found


def _listed(place: Path) -> list[str]:
    try:
        return os.listdir(place)
    except (FileNotFoundError, NotADirectoryError):
        return []
