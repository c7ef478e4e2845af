"""Gems: the `*.gemspec` files that RubyGems writes on installing. They are Ruby, but regular enough to be read.

Format: Gem::Specification#to_ruby of RubyGems 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.sbom.package import Package
from knarr.sbom.tree import Tree

# Nothing reaches over the end of a line: a file of millions of lines, or of quotes, must not be read again for each.
_TEXT = r"""(?:%q\{([^}\n]*)\}|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')(?:\.freeze)?"""
_FIELD = re.compile(
    rf"^[ \t]*\w+\.(name|version|homepage|summary|license)\s*=\s*(?:Gem::Version\.new\s*\(?)?{_TEXT}", re.MULTILINE
)
_LIST = re.compile(r"^[ \t]*\w+\.(licenses|authors)\s*=\s*\[([^\]\n]*)\]", re.MULTILINE)
_ITEM = re.compile(_TEXT)
_LONGEST = 10_000  # characters of a list
_NEEDED = re.compile(rf"^[ \t]*\w+\.add_(?:runtime_)?dependency\(?\s*{_TEXT}", re.MULTILINE)


def is_installed(path: str) -> bool:
    """Whether `path` is the specification of an installed gem, and not of one under development."""
    parts = path.split("/")
    return path.endswith(".gemspec") and ("specifications" in parts[-4:-1] or "rubygems-integration" in parts)


def read(tree: Tree, path: str) -> Iterator[Package]:
    """The gem whose specification is at `path`."""
    text = tree.text(path)
    if text is None:
        return
    found: dict[str, str] = {}
    for match in _FIELD.finditer(text):
        found.setdefault(match[1], _value(match.groups()[1:]))
    lists = {
        match[1]: [_value(one.groups()) for one in _ITEM.finditer(match[2][:_LONGEST])]
        for match in _LIST.finditer(text)
    }
    if not found.get("name") or not found.get("version"):
        tree.skip(path, "not a specification as RubyGems writes it: no name, or no version")
        return
    yield Package(
        "gem",
        found["name"],
        found["version"],
        licenses=tuple(lists.get("licenses") or filter(None, (found.get("license", ""),))),
        supplier=", ".join(lists.get("authors", [])[:3]),
        homepage=found.get("homepage", ""),
        summary=found.get("summary", ""),
        evidence=(path,),
        requires=tuple(dict.fromkeys(_value(match.groups()) for match in _NEEDED.finditer(text))),
    )


def _value(groups: tuple[str | None, ...]) -> str:
    found = next((one for one in groups if one is not None), "")
    return found.replace('\\"', '"').strip()
