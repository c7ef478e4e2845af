"""Packages of apk: the file `installed`. Format: apk-package(5) and apk-tools' database.c, version 2."""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.sbom.package import Distribution, Package
from knarr.sbom.tree import Tree

_NAME = re.compile(r"^[^<>=~@\s]+")


def read(tree: Tree, path: str, distribution: Distribution) -> Iterator[Package]:
    """The installed packages of the database at `path`."""
    data = tree.read(path, tree.limits.status)
    if data is None:
        return
    root = re.sub(r"(usr/)?lib/apk/db/installed$", "", path)
    for block in _blocks(data.decode("utf-8", "surrogateescape")):
        package = _package(block, root, path, distribution)
        if package is not None:
            yield package
        elif block.strip():
            tree.skip(path, "an entry has no name")


def _blocks(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        end = text.find("\n\n", at)
        end = len(text) if end < 0 else end
        yield text[at:end]
        at = end + 2


def _package(block: str, root: str, path: str, distribution: Distribution) -> Package | None:
    found: dict[str, str] = {}
    files: list[str] = []
    directory = ""
    for line in block.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if key == "F":
            directory = f"{value}/" if value else ""
        elif key == "R":
            files.append(f"{root}{directory}{value}")
        else:
            found.setdefault(key, value)
    name = found.get("P", "")
    if not name:
        return None
    return Package(
        "apk",
        _clean(name),
        _clean(found.get("V", "")),
        namespace=distribution.id or "alpine",
        architecture=found.get("A", ""),
        source=_clean(found.get("o", "")),
        licenses=(_clean(found["L"]),) if found.get("L") else (),
        supplier=_clean(found.get("m", "")),
        homepage=_clean(found.get("U", "")),
        summary=_clean(found.get("T", "")),
        evidence=(path,),
        files=tuple(files),
        # "!" is a conflict.
        requires=tuple(_names(word for word in found.get("D", "").split() if not word.startswith("!"))),
        provides=tuple(_names(found.get("p", "").split())),
        root=root,
    )


def _names(words: Iterator[str] | list[str]) -> Iterator[str]:
    for word in words:
        match = _NAME.match(word)
        if match:
            yield match[0]


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
