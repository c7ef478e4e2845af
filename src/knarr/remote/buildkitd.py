"""The `[registry."host"]` tables of buildkitd.toml.

Spec: moby/buildkit, docs/buildkitd.toml.md: `mirrors`, `http`, `insecure`, `ca`,
`[[registry."host".keypair]]`. The host must be written as in references.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any

from knarr.errors import UsageError
from knarr.record import record
from knarr.remote.trust import Trust


@record
class Table:
    """What the file says about one registry or mirror."""

    mirrors: tuple[str, ...] = ()  # host[:port][/path]
    http: bool = False
    trust: Trust = Trust()


_known: dict[tuple[str, int], dict[str, Table]] = {}


def read(path: str) -> Mapping[str, Table]:
    """The tables of the file at `path` by host, read again only when it changed.

    Raises:
        UsageError: not TOML, or a field of the wrong kind.
    """
    try:
        key = (path, os.stat(path).st_mtime_ns)
        known = _known.get(key)
        if known is None:
            with open(path, "rb") as file:
                data = tomllib.load(file)
            known = _known[key] = _tables(path, data.get("registry") or {})
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    return known


def _tables(path: str, data: Any) -> dict[str, Table]:
    if not isinstance(data, dict) or not all(isinstance(table, dict) for table in data.values()):
        raise UsageError(f'{path}: registry must be tables, such as [registry."registry.example"]')
    return {host: _table(path, host, table) for host, table in data.items()}


def _table(path: str, host: str, data: Mapping[str, Any]) -> Table:
    pairs = []
    for pair in data.get("keypair") or ():
        if not isinstance(pair, dict) or not pair.get("cert") or not pair.get("key"):
            raise UsageError(f"{path}: registry {host!r}: a keypair needs key and cert")
        pairs.append((str(pair["cert"]), str(pair["key"])))
    trust = Trust(_texts(path, host, data, "ca"), tuple(pairs), not data.get("insecure", False))
    return Table(_texts(path, host, data, "mirrors"), bool(data.get("http", False)), trust)


def _texts(path: str, host: str, data: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = data.get(field) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{path}: registry {host!r}: {field} must be a list of texts")
    return tuple(value)
