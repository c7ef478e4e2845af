"""The `[[registry]]` tables of podman's registries.conf: which place stands for a name, its mirrors, what is blocked.

Spec: containers-registries.conf(5), version 2. A table is found by the longest
`prefix` of `host/repository`; what of the name the prefix covers is replaced by
`location`. Short names and their aliases are not read: a short name means docker.io.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from knarr.errors import UsageError
from knarr.record import record

ANY, BY_DIGEST, BY_TAG = "all", "digest-only", "tag-only"


@record
class Place:
    """Where content lies: `host[:port][/path]`."""

    location: str
    insecure: bool = False
    pulls: str = ANY  # what a mirror is asked for


@record
class Rule:
    """One table. `prefix`: `host[:port][/path]`, or `*.domain`."""

    prefix: str
    place: Place
    mirrors: tuple[Place, ...] = ()
    blocked: bool = False
    file: str = ""

    def covers(self, name: str) -> bool:
        """Whether it is about `host/repository`."""
        if self.prefix.startswith("*."):
            return name.partition("/")[0].partition(":")[0].endswith(self.prefix[1:])
        return name == self.prefix or name.startswith((f"{self.prefix}/", f"{self.prefix}:"))


def match(files: Sequence[str], name: str) -> Rule | None:
    """The table of `files` for `host/repository`; of equal prefixes the last.

    Raises:
        UsageError: a file that cannot be read or understood.
    """
    found: dict[str, Rule] = {}
    for path in files:
        found.update((rule.prefix, rule) for rule in _read(path))
    covering = [rule for rule in found.values() if rule.covers(name)]
    return max(covering, key=lambda rule: len(rule.prefix), default=None)


_known: dict[tuple[str, int], tuple[Rule, ...]] = {}


def _read(path: str) -> tuple[Rule, ...]:
    try:
        key = (path, os.stat(path).st_mtime_ns)
        known = _known.get(key)
        if known is None:
            with open(path, "rb") as file:
                raw = file.read()
            known = _known[key] = tuple(_rules(path, raw))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    return known


def _rules(path: str, raw: bytes) -> Iterator[Rule]:
    import tomllib

    tables = tomllib.loads(raw.decode()).get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: registry must be tables: [[registry]]")
    for table in tables:
        yield _rule(path, table)


def _rule(path: str, table: Mapping[str, Any]) -> Rule:
    location = _text(path, table, "location")
    prefix = _text(path, table, "prefix") or location
    if not prefix or (not location and not prefix.startswith("*.")):
        raise UsageError(f"{path}: [[registry]] needs a location")
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
        raise UsageError(f"{path}: {prefix}: mirrors are tables: [[registry.mirror]]")
    usual = BY_DIGEST if table.get("mirror-by-digest-only") else ANY
    return Rule(
        prefix,
        Place(location, bool(table.get("insecure"))),
        tuple(
            Place(
                _text(path, mirror, "location"),
                bool(mirror.get("insecure")),
                _text(path, mirror, "pull-from-mirror") or usual,
            )
            for mirror in mirrors
        ),
        bool(table.get("blocked")),
        path,
    )


def _text(path: str, table: Mapping[str, Any], name: str) -> str:
    value = table.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"{path}: {name} must be a text")
    return value.strip("/")
