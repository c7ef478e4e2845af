"""Packages of npm and its relatives: `node_modules/*/package.json`, or what lock files name where nothing is installed.

Formats: package.json and package-lock.json as npm 10 documents them (lock versions 1 to 3).
Lock files of yarn and pnpm are in `npmlocks`.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from knarr.sbom.package import Package
from knarr.sbom.tree import Tree


def is_installed(path: str) -> bool:
    """Whether `path` is the package.json of an installed package: in node_modules, or in a scope there."""
    parts = path.split("/")
    if parts[-1] != "package.json":
        return False
    return parts[-3:-2] == ["node_modules"] or (parts[-4:-3] == ["node_modules"] and parts[-3].startswith("@"))


def read(tree: Tree, path: str) -> Iterator[Package]:
    """The installed package whose package.json is at `path`."""
    data = load_json(tree, path, tree.limits.text)
    if isinstance(data, dict):
        found = _package(data, path)
        if found is not None:
            yield found


def load_json(tree: Tree, path: str, limit: int) -> Any:
    """The JSON at `path`; None when it is none (that is noted)."""
    raw = tree.read(path, limit)
    if raw is None:
        return None
    try:
        return json.loads(raw.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as error:
        tree.skip(path, f"not JSON: {error if isinstance(error, ValueError) else 'nested too deep'}")
        return None


def _package(data: Mapping[str, Any], path: str) -> Package | None:
    name, version = data.get("name"), data.get("version")
    if not isinstance(name, str) or not name or not isinstance(version, str):
        return None  # a directory with its own settings, such as {"type": "module"}
    repository = data.get("repository")
    homepage = data.get("homepage") or (repository.get("url") if isinstance(repository, dict) else repository)
    required = data.get("dependencies")
    return named(
        name,
        version,
        path,
        licenses=_licenses(data),
        supplier=_person(data.get("author")),
        homepage=homepage if isinstance(homepage, str) else "",
        summary=text(data.get("description")),
        requires=tuple(map(str, required)) if isinstance(required, dict) else (),
    )


def named(name: str, version: str, path: str, **more: Any) -> Package:
    """A package by its name, of which a scope is the first part."""
    scope, slash, short = name.partition("/")
    if slash and scope.startswith("@"):
        return Package("npm", short, version, namespace=scope, evidence=(path,), **more)
    return Package("npm", name, version, evidence=(path,), **more)


def _licenses(data: Mapping[str, Any]) -> tuple[str, ...]:
    one, many = data.get("license"), data.get("licenses")
    given = many if isinstance(many, list) and not one else [one]
    names = [entry.get("type") if isinstance(entry, dict) else entry for entry in given]
    return tuple(name for name in names if isinstance(name, str) and name and not name.startswith("SEE LICENSE"))


def _person(value: Any) -> str:
    if isinstance(value, dict):
        name, address = text(value.get("name")), text(value.get("email"))
        return f"{name} <{address}>" if name and address else name or address
    return text(value)


def text(value: Any) -> str:
    """`value` if it is text, else nothing."""
    return value if isinstance(value, str) else ""


def read_lock(tree: Tree, path: str) -> Iterator[Package]:
    """What package-lock.json or npm-shrinkwrap.json names, unless it is installed beside it."""
    if tree.names(posixpath.join(posixpath.dirname(path), "node_modules")):
        return
    data = load_json(tree, path, tree.limits.lock)
    if not isinstance(data, dict):
        return
    packages = data.get("packages")
    if isinstance(packages, dict):
        for place, entry in packages.items():
            if place and isinstance(entry, dict) and not entry.get("link"):
                name = text(entry.get("name")) or place.rpartition("node_modules/")[2]
                yield from _locked(name, entry, path)
    else:
        yield from _locked_v1(data, path)


def _locked_v1(data: Mapping[str, Any], path: str) -> Iterator[Package]:
    todo = [data]
    while todo:
        below = todo.pop().get("dependencies")
        for name, entry in below.items() if isinstance(below, dict) else ():
            if isinstance(entry, dict):
                yield from _locked(name, entry, path)
                todo.append(entry)


def _locked(name: str, entry: Mapping[str, Any], path: str) -> Iterator[Package]:
    version = text(entry.get("version"))
    if name and version:
        license = text(entry.get("license"))
        yield named(name, version, path, licenses=(license,) if license else ())
