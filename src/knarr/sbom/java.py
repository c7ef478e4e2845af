"""Java archives: what `META-INF` says of a jar, and of the jars inside of it.

Maven leaves `pom.properties` for the archive itself and for each that was merged into
it; where there is none, the manifest and the file's name tell. Format: JAR File
Specification of Java 21.
"""

from __future__ import annotations

import io
import posixpath
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from knarr.sbom.fields import paragraphs
from knarr.sbom.package import Package
from knarr.sbom.tree import Tree

ENDINGS = (".jar", ".war", ".ear", ".par", ".sar", ".nar", ".hpi", ".jpi", ".kar", ".rar")
_NAME = re.compile(r"^(.+?)-(\d[\w.+~-]*?)$")
_END = struct.Struct("<4s4H2IH")
_BROKEN = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError)


class _Budget:
    """What one archive may still give, with those inside of it."""

    def __init__(self, tree: Tree, path: str) -> None:
        self.tree, self.path = tree, path
        self.bytes, self.entries = tree.limits.unpacked, tree.limits.entries


def read(tree: Tree, path: str) -> Iterator[Package]:
    """The package that the archive at `path` is, and those in it."""
    file = tree.open(path)
    if file is None:
        return
    with file:
        if file.read(2) != b"PK":  # a link to nothing, a text about a jar, an archive of RAR
            return
        size = file.seek(0, io.SEEK_END)
        if size > tree.limits.archive:
            tree.skip(path, f"larger than {tree.limits.archive >> 20} MiB")
            return
        yield from _archive(file, path, _Budget(tree, path), depth=1)


def _archive(file: BinaryIO, path: str, budget: _Budget, *, depth: int) -> Iterator[Package]:
    """`path` is the file's own, with `!` before the name of an archive inside."""
    tree = budget.tree
    if _directory_bytes(file) > tree.limits.directory:
        tree.skip(path, f"its table of contents is larger than {tree.limits.directory >> 20} MiB")
        return
    try:
        with zipfile.ZipFile(file) as archive:
            yield from _opened(archive, path, budget, depth)
    except _BROKEN as error:
        tree.skip(path, f"cannot be read as an archive: {error}")


def _opened(archive: zipfile.ZipFile, path: str, budget: _Budget, depth: int) -> Iterator[Package]:
    tree, found = budget.tree, list[Package]()
    infos = archive.infolist()
    budget.entries -= len(infos)
    if budget.entries < 0:
        tree.skip(path, f"more than {tree.limits.entries} entries")
        return
    manifest: dict[str, str] = {}
    for info in infos:
        name = info.filename
        if name == "META-INF/MANIFEST.MF":
            manifest = next(paragraphs(_text(archive, info, budget).replace("\n ", "").replace("\r", "")), {})
        elif name.startswith("META-INF/maven/") and name.endswith("/pom.properties"):
            package = _from_properties(_text(archive, info, budget), path)
            if package is not None:
                found.append(package)
    yield from _named(found, manifest, path)
    for info in infos:
        if info.filename.lower().endswith(ENDINGS):
            yield from _inner(archive, info, f"{path}!{info.filename}", budget, depth)


def _inner(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: str, budget: _Budget, depth: int
) -> Iterator[Package]:
    if depth >= budget.tree.limits.depth:
        budget.tree.skip(path, f"an archive more than {budget.tree.limits.depth} deep")
        return
    data = _read(archive, info, budget, budget.tree.limits.unpacked)
    if data[:2] == b"PK":
        yield from _archive(io.BytesIO(data), path, budget, depth=depth + 1)


def _named(found: list[Package], manifest: dict[str, str], path: str) -> Iterator[Package]:
    """What the archive itself is, with what the manifest knows of it, and what was merged into it."""
    stem = posixpath.splitext(posixpath.basename(path.rpartition("!")[2]))[0]
    own = next((one for one in found if stem == one.name or stem.startswith(f"{one.name}-")), None)
    licenses = tuple(filter(None, (_license(manifest.get("bundle-license", "")),)))
    supplier = manifest.get("implementation-vendor", "") or manifest.get("bundle-vendor", "")
    if own is None and len(found) == 1:
        own = found[0]
    if own is not None:
        yield Package(
            own.kind, own.name, own.version, own.namespace, licenses=licenses, supplier=supplier, evidence=(path,)
        )
        yield from (one for one in found if one is not own)
        return
    yield from found
    package = _from_manifest(manifest, stem, path)
    if package is not None:
        yield Package(
            "maven",
            package[1],
            package[2],
            package[0],
            licenses=licenses,
            supplier=supplier,
            homepage=manifest.get("bundle-docurl", ""),
            evidence=(path,),
        )


def _from_manifest(manifest: dict[str, str], stem: str, path: str) -> tuple[str, str, str] | None:
    """Group, name and version of an archive that Maven did not make."""
    match = _NAME.match(stem)
    name, version = (match[1], match[2]) if match else (stem, "")
    version = version or manifest.get("implementation-version", "") or manifest.get("bundle-version", "")
    if not version and not manifest:
        return None
    group = manifest.get("implementation-vendor-id", "")
    symbolic = manifest.get("bundle-symbolicname", "").partition(";")[0].strip()
    if not group and "." in symbolic:
        group = symbolic.removesuffix(f".{name}") if symbolic.endswith(f".{name}") else symbolic
    return group, name, version.strip()


def _license(text: str) -> str:
    """Bundle-License is a name, an address, or `name;link=address`."""
    return text.partition(";")[0].strip().strip('"')


def _from_properties(text: str, path: str) -> Package | None:
    pairs = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    found = {key.strip(): value.strip() for key, _, value in pairs}
    name, group = found.get("artifactId", ""), found.get("groupId", "")
    if not name or "${" in name:
        return None
    return Package("maven", name, found.get("version", ""), group, evidence=(path,))


def _text(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> str:
    return _read(archive, info, budget, budget.tree.limits.text).decode("utf-8", "replace")


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget, limit: int) -> bytes:
    """An entry, whatever its header says of its size; nothing when it is too large (that is noted)."""
    limit = min(limit, budget.bytes)
    parts, size = [], 0
    try:
        with archive.open(info) as stream:
            while size <= limit and (part := stream.read(min(1 << 20, limit + 1 - size))):
                parts.append(part)
                size += len(part)
    except _BROKEN as error:
        budget.tree.skip(f"{budget.path}!{info.filename}", f"cannot be read: {error}")
        return b""
    budget.bytes -= size
    if not budget.tree.spend(size, budget.path):
        return b""
    if size > limit:
        budget.tree.skip(f"{budget.path}!{info.filename}", "unpacks to more than a scan reads")
        return b""
    return b"".join(parts)


def _directory_bytes(file: BinaryIO) -> int:
    """How large the table of contents says it is, from the record at the end; zipfile would read it whole."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        return 0
    found: int = _END.unpack_from(tail, at)[5]
    return found if found != 0xFFFFFFFF else size
