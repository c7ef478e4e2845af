"""The walls of the house: who imports whom, compared with the table in docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/knarr"
ROW = re.compile(
    r"^\| (?P<floor>[^|]*) \| `(?P<unit>[a-z/_]+)`[^|]*\| (?P<what>[^|]*) \| (?P<may>[^|]*) \|$", re.MULTILINE
)


def table() -> dict[str, set[str] | None]:
    """Unit → units it may import; None: anything. `G` stands for all units of the ground floor."""
    rows = [match.groupdict() for match in ROW.finditer((ROOT / "docs/architecture.md").read_text())]
    ground = {row["unit"].rstrip("/") for row in rows if "G" in row["floor"]}
    allowed: dict[str, set[str] | None] = {}
    for row in rows:
        words = re.findall(r"[a-zG]+", row["may"])
        if "anything" in words:
            allowed[row["unit"].rstrip("/")] = None
            continue
        named = {word for word in words if word != "G"}
        allowed[row["unit"].rstrip("/")] = named | ground if "G" in words else named
    return allowed


def imports() -> Iterator[tuple[str, str, str, bool]]:
    """(module file, its unit, the unit it imports, whether only for types)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        unit = relative.parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        typing_only = {id(node) for block in _type_checking(tree) for node in ast.walk(block)}
        for node in ast.walk(tree):
            for name in _names(node):
                yield str(relative), unit, name, id(node) in typing_only


def _type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "knarr":
        parts = (node.module or "").split(".")
        yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
    elif isinstance(node, ast.Import):
        yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("knarr."))


def test_every_unit_has_a_row_in_the_map() -> None:
    units = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir() if not p.name.startswith(("_", "py."))}
    assert units - set(table()) == set()


def test_imports_point_down() -> None:
    allowed = table()
    wrong = [
        f"{file} imports {target}"
        for file, unit, target, _ in imports()
        if unit in allowed and target != unit and (may := allowed[unit]) is not None and target not in may
    ]
    assert wrong == []


def test_the_map_has_no_rooms_that_import_each_other() -> None:
    edges = {(unit, target) for _, unit, target, typing_only in imports() if unit != target and not typing_only}
    assert [edge for edge in edges if edge[::-1] in edges] == []


HOMES = {
    "grpc": {"buildkit", "client", "containerd", "daemon", "trace"},
    "opentelemetry": {"daemon", "trace"},
    "dask": {"farm"},
    "distributed": {"farm"},
    "cryptography": {"pki", "attest", "session"},
    "isal": {"layer"},
    "nacl": {"attest"},
    "pkcs11": {"attest"},
    "sigstore": {"attest"},
    "license_expression": {"sbom"},
    "packageurl": {"sbom"},
    "yaml": {"runtime", "sync", "serve"},
    "zstandard": {"layer"},
    "google": {"pb", "llb", "buildkit", "client", "containerd", "daemon"},
    "aiohttp": {"pki", "registry"},
    "bcrypt": {"registry"},
    "sqlite3": {"cache", "content", "registry", "sbom", "snapshot", "wal"},
    "argparse": {"cli"},
}


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_is_used_only_in_its_home(library: str) -> None:
    used = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == library for name in names):
                used.add(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    assert used - HOMES[library] == set()
