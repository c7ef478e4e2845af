"""Packages of dpkg: the file `status`, or `status.d` of images without dpkg (distroless).

Formats: deb-control(5), and Debian Policy 4.7, chapters 5 and 12.5 (copyright).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.sbom.copyright import licenses_of
from knarr.sbom.fields import paragraphs
from knarr.sbom.package import Distribution, Package
from knarr.sbom.tree import Tree

_SOURCE = re.compile(r"^(\S+)(?:\s+\(([^)]+)\))?$")
_RELATION = re.compile(r"[a-z0-9][a-z0-9+.-]*")


def read_status(tree: Tree, path: str, distribution: Distribution) -> Iterator[Package]:
    """The installed packages of the database at `path`."""
    text = tree.text(path, tree.limits.status)
    if text is None:
        return
    root = path.removesuffix("var/lib/dpkg/status")
    for entry in paragraphs(text):
        # The state is the third word. What was removed and left its configuration is not there any more;
        # what is unpacked or half configured is.
        state = entry.get("status", "install ok installed").split()
        if len(state) == 3 and state[2] not in ("config-files", "not-installed"):
            yield from _package(tree, root, path, entry, distribution)


def read_status_d(tree: Tree, path: str, distribution: Distribution) -> Iterator[Package]:
    """The one package of a file in `status.d`."""
    text = tree.text(path)
    if text is None:
        return
    root = path[: path.rindex("var/lib/dpkg/status.d/")]
    for entry in paragraphs(text):
        yield from _package(tree, root, path, entry, distribution)


def _package(tree: Tree, root: str, path: str, entry: dict[str, str], distribution: Distribution) -> Iterator[Package]:
    name, version = entry.get("package", ""), entry.get("version", "")
    if not name or "/" in name:
        tree.skip(path, "an entry has no name")
        return
    source = _SOURCE.match(entry.get("source", ""))
    files, lists = _files(tree, root, path, name, entry.get("architecture", ""))
    copyright_file = f"{root}usr/share/doc/{name}/copyright"
    text = tree.text(copyright_file, 4 << 20) if tree.is_file(copyright_file) else None
    summary = entry.get("description", "").partition("\n")[0]
    yield Package(
        "deb",
        name,
        version,
        namespace=distribution.id or "debian",
        architecture=entry.get("architecture", ""),
        source=source[1] if source else "",
        source_version=(source[2] or "") if source else "",
        licenses=licenses_of(text) if text is not None else (),
        license_files=(copyright_file,) if text is not None else (),
        supplier=entry.get("maintainer", ""),
        homepage=entry.get("homepage", ""),
        summary=summary,
        evidence=(path, *lists),
        files=files,
        requires=_relations(entry, "pre-depends", "depends"),
        provides=tuple(word.partition("|")[0] for word in _relations(entry, "provides")),
        root=root,
    )


def _files(tree: Tree, root: str, path: str, name: str, architecture: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The files of a package, and which lists told of them."""
    if "/status.d/" in path:
        sums = tree.text(f"{path}.md5sums")
        if sums is None:
            return (), ()
        paths = [line.partition("  ")[2] for line in sums.splitlines()]
        return tuple(root + one for one in paths if one), (f"{path}.md5sums",)
    info = f"{root}var/lib/dpkg/info/{name}"
    for stem in (f"{info}:{architecture}", info):
        listed = tree.read(f"{stem}.list", tree.limits.lock)
        if listed is None:
            continue
        lines = listed.decode("utf-8", "surrogateescape").splitlines()
        return tuple(root + line[1:] for line in lines if line.startswith("/") and line != "/."), (f"{stem}.list",)
    return (), ()


def _relations(entry: dict[str, str], *keys: str) -> tuple[str, ...]:
    """The names in fields like Depends, without versions and architectures; alternatives stay together."""
    found = []
    for key in keys:
        for one in entry.get(key, "").split(","):
            names = [match[0] for part in one.split("|") if (match := _RELATION.match(part.strip()))]
            if names:
                found.append("|".join(names))
    return tuple(dict.fromkeys(found))
