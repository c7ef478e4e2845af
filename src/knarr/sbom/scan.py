"""One walk over a tree: each file that tells of packages is given to the cataloger whose it is.

inventory = scan("/run/root")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from knarr.record import fields, replace
from knarr.sbom import apk, deb, elf, gem, gobinary, java, npm, npmlocks, python, rpm, rust
from knarr.sbom.limits import Limits
from knarr.sbom.osrelease import distribution
from knarr.sbom.owned import owned
from knarr.sbom.package import Distribution, Inventory, Package, Skipped
from knarr.sbom.tree import Tree, shown

_LOCKS = {
    "package-lock.json": npm.read_lock,
    "npm-shrinkwrap.json": npm.read_lock,
    "yarn.lock": npmlocks.read_yarn,
    "pnpm-lock.yaml": npmlocks.read_pnpm,
}
_RPM = ("rpmdb.sqlite", "Packages.db", "Packages")
_RPM_PLACES = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_SHOWN = 200  # notes of one scan
# fmt: off
_NO_PROGRAMS = (
    ".py", ".pyc", ".pyi", ".js", ".mjs", ".cjs", ".ts", ".map", ".json", ".html", ".htm", ".css", ".txt", ".md",
    ".rst", ".gz", ".xz", ".bz2", ".zst", ".zip", ".tar", ".h", ".hpp", ".c", ".cc", ".cpp", ".pl", ".pm", ".rb",
    ".png", ".svg", ".jpg", ".gif", ".ico", ".ttf", ".woff", ".woff2", ".mo", ".po", ".conf", ".cnf", ".list",
    ".md5sums", ".xml", ".yaml", ".yml", ".toml", ".ini", ".sh", ".service", ".pem", ".crt", ".a", ".o", ".la",
    ".pc", ".m4", ".tcl", ".lua",
)
# fmt: on


def scan(root: str, *, limits: Limits | None = None, check: Callable[[], None] | None = None) -> Inventory:
    """Everything that is found in the tree at `root`. Nothing in it is run, and no link leads out of it.

    `check` is called often and may raise to stop.
    """
    tree = Tree(root, limits=limits, check=check)
    distro = distribution(tree)
    regular: list[str] = []
    found = list(islice(_found(tree, distro, regular), tree.limits.packages + 1))
    if len(found) > tree.limits.packages:
        del found[tree.limits.packages :]
        tree.skip("", f"more than {tree.limits.packages} packages; the rest was not read")
    packages = _without_foreign_locks(tree, _merged(found))
    files, owners = owned(tree, packages, regular)
    return Inventory(
        tuple(map(_printable, packages)),
        {shown(path): fact for path, fact in files.items()},
        tuple(tuple(map(shown, paths)) for paths in owners),
        distro,
        _told(tree.skipped),
    )


def _found(tree: Tree, distro: Distribution, regular: list[str]) -> Iterator[Package]:
    for here, entries in tree.walk():
        prefix = f"{here}/" if here else ""
        for entry in entries:
            if not entry.is_file(follow_symlinks=False):
                continue
            path = prefix + entry.name
            regular.append(path)
            yield from _of_file(tree, distro, here, path, entry.name)


def _of_file(tree: Tree, distro: Distribution, here: str, path: str, name: str) -> Iterator[Package]:
    """The packages that one file tells of."""
    if name == "status" and _is(here, "var/lib/dpkg"):
        yield from deb.read_status(tree, path, _nearest(tree, distro, path, "var/lib/dpkg/"))
    elif _is(here, "var/lib/dpkg/status.d"):
        if not name.endswith(".md5sums"):
            yield from deb.read_status_d(tree, path, _nearest(tree, distro, path, "var/lib/dpkg/"))
    elif name == "installed" and _is(here, "lib/apk/db"):
        yield from apk.read(tree, path, distro)
    elif name in _RPM and any(_is(here, place) for place in _RPM_PLACES):
        yield from rpm.read(tree, path, distro)
    elif name == "package.json":
        if npm.is_installed(path):
            yield from npm.read(tree, path)
    elif name in _LOCKS:
        yield from _LOCKS[name](tree, path)
    elif python.is_metadata(path):
        yield from python.read(tree, path)
    elif name.endswith(".gemspec"):
        if gem.is_installed(path):
            yield from gem.read(tree, path)
    elif name.lower().endswith(java.ENDINGS):
        yield from java.read(tree, path)
    else:
        yield from _of_program(tree, path, name)


def _of_program(tree: Tree, path: str, name: str) -> Iterator[Package]:
    """What a compiler left in a program or a library."""
    # A suffix of a text says that it is none; there are many, and opening each would take longest of all.
    if name.endswith(_NO_PROGRAMS):
        return
    file = tree.open(path)
    if file is None:
        return
    with file:
        if file.read(4) != elf.MAGIC:
            return
        headers = elf.parse(file)
        if headers is not None:
            yield from gobinary.read(file, headers, path, tree.limits.program)
            if tree.spend(headers.size_of(".dep-v0", tree.limits.program), path):
                yield from rust.read(file, headers, path, tree.limits.program)


def _is(here: str, place: str) -> bool:
    return here == place or here.endswith(f"/{place}")


def _nearest(tree: Tree, distro: Distribution, path: str, place: str) -> Distribution:
    """The distribution whose database `path` is: that of the root it lies in, a root within the tree as well."""
    root = path[: path.rindex(place)]
    return distribution(tree, root) if root else distro


def _merged(found: list[Package]) -> list[Package]:
    """Each package once, sorted: what several files tell of, such as lock files, is one with all its evidence."""
    by_name: dict[tuple[str, ...], Package] = {}
    for package in found:
        key: tuple[str, ...] = (package.kind, package.namespace, package.name, package.version)
        key += (package.architecture, package.root)
        if package.files or package.kind in ("pypi", "gem"):
            key += package.evidence  # installed twice, at two places
        known = by_name.get(key)
        if known is None:
            by_name[key] = package
        else:
            evidence = tuple(dict.fromkeys((*known.evidence, *package.evidence)))
            by_name[key] = replace(known, evidence=evidence, licenses=known.licenses or package.licenses)
    return [by_name[key] for key in sorted(by_name)]


def _without_foreign_locks(tree: Tree, packages: list[Package]) -> list[Package]:
    """Without what only lock files tell of that a distribution's packages brought along.

    They are of a project's development: Debian's documents have hundreds of names
    that nobody installed.
    """
    if not any(path.rpartition("/")[2] in _LOCKS for package in packages for path in package.evidence):
        return packages
    theirs = {tree.real(path) for package in packages for path in package.files if path.rpartition("/")[2] in _LOCKS}
    return [package for package in packages if not theirs.issuperset(package.evidence)]


def _printable(package: Package) -> Package:
    """The package with text only that JSON can carry."""
    values: dict[str, Any] = {name: _clean(getattr(package, name)) for name in fields(package)}
    return Package(**values)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else shown(value)
    return tuple(map(_clean, value)) if isinstance(value, tuple) else value


def _told(skipped: list[Skipped]) -> tuple[Skipped, ...]:
    """What was passed over; of very many the first, and how many more there are."""
    found = [Skipped(shown(one.path), one.reason) for one in dict.fromkeys(skipped)]
    if len(found) > _SHOWN:
        found[_SHOWN:] = [Skipped("", f"{len(found) - _SHOWN} more notes like these")]
    return tuple(found)
