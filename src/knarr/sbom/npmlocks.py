"""Lock files of yarn (classic and berry) and of pnpm, read line by line: only names and versions are wanted of them.

Both are close to YAML; a line at a time takes a tenth of the time that a parser does, and nothing in it can be nested
or repeated until memory is full.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from knarr.sbom.npm import named
from knarr.sbom.package import Package
from knarr.sbom.tree import Tree

_YARN_HEAD = re.compile(r'^"?((?:@[^/@\s"]+/)?[^@\s",]+)@([^,"\n]*)')
_YARN_VERSION = re.compile(r'^\s+version:?\s+"?([^"\s]+)"?\s*$')
# /@scope/name/1.0.0, /name@1.0.0(peer@2), 'name@1.0.0'
_PNPM = re.compile(r"^  '?/?((?:@[^/@\s]+/)?[^/@\s(]+)[/@](\d[^\s():'_]*)[^:]*'?:")


def read_yarn(tree: Tree, path: str) -> Iterator[Package]:
    """What yarn.lock names, unless node_modules is beside it."""
    name = ""
    for line in _lines(tree, path):
        if line[:1] not in (" ", "#", ""):
            match = _YARN_HEAD.match(line)
            # workspace: is the project itself.
            name = match[1] if match and not match[2].startswith("workspace:") else ""
        elif name:
            found = _YARN_VERSION.match(line)
            if found:
                yield named(name, found[1], path)
                name = ""


def read_pnpm(tree: Tree, path: str) -> Iterator[Package]:
    """What the section `packages` of pnpm-lock.yaml names, unless node_modules is beside it."""
    inside = False
    for line in _lines(tree, path):
        if line and not line[0].isspace():
            inside = line.startswith("packages:")
        elif inside:
            match = _PNPM.match(line)
            if match:
                yield named(match[1], match[2], path)


def _lines(tree: Tree, path: str) -> list[str]:
    if tree.names(posixpath.join(posixpath.dirname(path), "node_modules")):
        return []
    text = tree.text(path, tree.limits.lock)
    return text.splitlines() if text is not None else []
