"""The files that packages brought along: which of them are there, and their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from knarr.sbom.package import FileFact, Package
from knarr.sbom.tree import Tree

_CHUNK = 1 << 20


def owned(
    tree: Tree, packages: Sequence[Package], regular: Iterable[str]
) -> tuple[dict[str, FileFact], list[tuple[str, ...]]]:
    """Digests of the files that belong to packages, by their real path, and the real paths of each package's.

    `regular` are the regular files of the tree. A path that a database has and the tree
    has not was removed since, or never unpacked (`path-exclude`): it is left out. A
    package without a list owns what it was found in, unless another package does.
    """
    here = frozenset(regular)
    owners: list[tuple[str, ...]] = []
    claimed: set[str] = set()
    for package in packages:
        real = dict.fromkeys(found for path in package.files if (found := tree.real(path)) in here)
        claimed.update(real)
        owners.append(tuple(real))
    for number, package in enumerate(packages):
        if not owners[number]:
            own = [path for path in package.evidence if path in here and path not in claimed]
            owners[number] = () if package.kind in ("deb", "apk", "rpm") else tuple(own)
    facts: dict[str, FileFact] = {}
    for path in sorted({path for paths in owners for path in paths}):
        fact = _fact(tree, path)
        if fact is not None:
            facts[path] = fact
    return facts, [tuple(path for path in paths if path in facts) for paths in owners]


def _fact(tree: Tree, path: str) -> FileFact | None:
    file = tree.open(path)
    if file is None:
        return None
    # SPDX demands SHA-1 of every file; SHA-256 is what others compare by.
    one, two, size = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    with file:
        try:
            while chunk := file.read(_CHUNK):
                one.update(chunk)
                two.update(chunk)
                size += len(chunk)
        except OSError as error:
            tree.skip(path, f"cannot be read: {error.strerror}")
            return None
    return FileFact(size, one.hexdigest(), two.hexdigest())
