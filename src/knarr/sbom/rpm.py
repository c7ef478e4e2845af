"""Packages of rpm, from each of the three databases it has had: SQLite, ndb, and Berkeley DB (hash)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from knarr.sbom import rpmheader as header
from knarr.sbom.package import Distribution, Package
from knarr.sbom.tree import Tree

_ROOT = re.compile(r"(?:var/lib/rpm|usr/lib/sysimage/rpm|usr/share/rpm)/[^/]+$")
_LICENSE_FLAG = 1 << 7  # RPMFILE_LICENSE: %license of a spec file
_SOURCE = re.compile(r"^(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm$")


def read(tree: Tree, path: str, distribution: Distribution) -> Iterator[Package]:
    """The installed packages of the database at `path`, whichever kind it is."""
    root = _ROOT.sub("", path)
    for number, blob in enumerate(_blobs(tree, path)):
        if number >= tree.limits.packages:
            tree.skip(path, f"more than {tree.limits.packages} entries")
            return
        try:
            found = header.parse(blob)
        except ValueError as error:
            tree.skip(path, f"an entry is damaged: {error}")
            continue
        package = _package(found, root, path, distribution)
        if package is not None:
            yield package


def _blobs(tree: Tree, path: str) -> Iterable[bytes]:
    if path.endswith(".sqlite"):
        from knarr.sbom.rpmsqlite import blobs

        return blobs(tree, path)
    data = tree.read(path, tree.limits.database)
    if data is None:
        return ()
    from knarr.sbom import rpmbdb, rpmndb

    return (rpmndb.blobs if path.endswith("Packages.db") else rpmbdb.blobs)(tree, path, data)


def _package(found: Mapping[int, header.Values], root: str, path: str, distribution: Distribution) -> Package | None:
    name = header.text(found, header.NAME)
    # gpg-pubkey is how rpm keeps the keys that it trusts: no software.
    if not name or name == "gpg-pubkey":
        return None
    version = "-".join(filter(None, (header.text(found, header.VERSION), header.text(found, header.RELEASE))))
    epoch = header.text(found, header.EPOCH)
    source = _SOURCE.match(header.text(found, header.SOURCERPM))
    files, license_files = _files(found, root)
    qualifiers = [("epoch", epoch)] if epoch else []
    upstream = header.text(found, header.SOURCERPM)
    if upstream:
        qualifiers.append(("upstream", upstream))
    modularity = header.text(found, header.MODULARITY)
    if modularity:
        qualifiers.append(("rpmmod", modularity))
    return Package(
        "rpm",
        name,
        version,
        namespace=distribution.id,
        architecture=header.text(found, header.ARCH),
        source=source[1] if source else "",
        source_version=source[2] if source else "",
        licenses=tuple(filter(None, (header.text(found, header.LICENSE),))),
        license_files=license_files,
        supplier=header.text(found, header.VENDOR) or header.text(found, header.PACKAGER),
        homepage=header.text(found, header.URL),
        summary=header.text(found, header.SUMMARY),
        evidence=(path,),
        files=files,
        requires=_names(found, header.REQUIRES),
        provides=_names(found, header.PROVIDES),
        qualifiers=tuple(qualifiers),
        root=root,
    )


def _names(found: Mapping[int, header.Values], tag: int) -> tuple[str, ...]:
    """Names of what is needed or given, without what rpm itself must be able to do."""
    names = [name for name in header.texts(found, tag) if not name.startswith("rpmlib(")]
    return tuple(dict.fromkeys(name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in names))


def _files(found: Mapping[int, header.Values], root: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    directories = header.texts(found, header.DIRNAMES)
    names = header.texts(found, header.BASENAMES)
    indexes = header.numbers(found, header.DIRINDEXES)
    flags = header.numbers(found, header.FILEFLAGS)
    files, licenses = [], []
    for number, (name, index) in enumerate(zip(names, indexes, strict=False)):
        if index >= len(directories):
            continue
        path = f"{root}{directories[index].lstrip('/')}{name}"
        files.append(path)
        if number < len(flags) and flags[number] & _LICENSE_FLAG:
            licenses.append(path)
    return tuple(files), tuple(licenses)
