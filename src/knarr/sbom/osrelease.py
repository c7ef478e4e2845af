"""Which distribution a tree is of: os-release(5)."""

from __future__ import annotations

import shlex

from knarr.sbom.package import Distribution
from knarr.sbom.tree import Tree


def distribution(tree: Tree, root: str = "") -> Distribution:
    """What the os-release of `root`, a directory of `tree`, says."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        text = tree.text(f"{root}{path}", 1 << 20)
        if text is not None:
            return parse(text)
    return Distribution()


def parse(text: str) -> Distribution:
    """Read the text of an os-release; lines that are none are passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            words = shlex.split(value)
        except ValueError:  # a quote that never ends
            continue
        found.setdefault(key, words[0] if words else "")
    version = found.get("VERSION_ID") or found.get("VERSION_CODENAME") or found.get("BUILD_ID", "")
    return Distribution(
        found.get("ID", ""), version, found.get("ID_LIKE", ""), found.get("PRETTY_NAME") or found.get("NAME", "")
    )
