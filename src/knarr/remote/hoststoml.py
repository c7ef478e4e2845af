"""containerd's `hosts.toml`: the endpoints for one registry.

`[host."URL"]` tables are tried in the order of the file, `server` last. Spec:
containerd 2, docs/hosts.md; `plain_http` is not a field of it: an `http://` URL is.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any

from knarr.errors import RegistryError, UsageError
from knarr.remote import url
from knarr.remote.hosts import ALL, Endpoint
from knarr.remote.trust import Trust
from knarr.remote.url import Origin


def read(path: str, default: Origin) -> tuple[Endpoint, ...]:
    """The endpoints that the file at `path` lists, without what other sources know about their trust.

    `default` is asked last when the file names no `server`.

    Raises:
        UsageError: not TOML, or a field of the wrong kind; names the file and the field.
    """
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    tables = data.get("host") or {}
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UsageError(f'{path}: host must be tables, such as [host."https://mirror.example"]')
    found = [_endpoint(path, str(place), table) for place, table in tables.items()]
    root = {key: value for key, value in data.items() if key != "host"}
    server = root.get("server")
    found.append(_endpoint(path, str(server) if server else str(default), root))
    return tuple(found)


def _endpoint(path: str, place: str, table: Mapping[str, Any]) -> Endpoint:
    text = place if "://" in place else "https://" + place
    try:
        where = url.parse(text)
    except RegistryError as error:
        raise UsageError(f"{path}: {place!r} is not a host or a URL") from error
    prefix = where.target.partition("?")[0].rstrip("/")
    if not table.get("override_path") and not prefix.endswith("/v2"):
        prefix += "/v2"
    verify = not table.get("skip_verify", False)
    base = os.path.dirname(path)
    trust = Trust(_files(path, base, "ca", table.get("ca")), _pairs(path, base, table.get("client")), verify)
    return Endpoint(
        where.origin,
        prefix,
        _capabilities(path, table.get("capabilities")),
        trust,
        _headers(path, table.get("header")),
        dial_timeout_s=_seconds(path, table.get("dial_timeout")),
    )


def _capabilities(path: str, value: Any) -> frozenset[str]:
    if value is None:
        return ALL
    if not isinstance(value, list) or not set(map(str, value)) <= ALL:
        raise UsageError(f"{path}: capabilities {value!r}: use a list of {', '.join(sorted(ALL))}")
    # Older files know no "referrers"; whoever may pull may ask for them.
    return frozenset(value) | ({"referrers"} if "pull" in value else set())


def _files(path: str, base: str, field: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise UsageError(f"{path}: {field} must be a file name or a list of them")
    return tuple(os.path.join(base, item) for item in items)


def _pairs(path: str, base: str, value: Any) -> tuple[tuple[str, str], ...]:
    """`client`: a file with both, a list of such files, or a list of [certificate, key]."""
    items = [value] if isinstance(value, str) else value or []
    if not isinstance(items, list):
        raise UsageError(f"{path}: client must be a file name or a list")
    pairs = []
    for item in items:
        names = [item] if isinstance(item, str) else item
        if not isinstance(names, list) or not 1 <= len(names) <= 2 or not all(isinstance(n, str) for n in names):
            raise UsageError(f"{path}: client {item!r}: use a file name or [certificate, key]")
        certificate = os.path.join(base, names[0])
        pairs.append((certificate, os.path.join(base, names[1]) if len(names) == 2 and names[1] else ""))
    return tuple(pairs)


def _headers(path: str, value: Any) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise UsageError(f"{path}: header must be a table")
    return tuple((str(name), str(v)) for name, vs in value.items() for v in (vs if isinstance(vs, list) else [vs]))


def _seconds(path: str, value: Any) -> float:
    """A Go duration such as `1m30s` or `500ms`; plain numbers are seconds."""
    if value is None:
        return 0.0
    import re

    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    text = str(value)
    parts = re.findall(r"(\d+(?:\.\d*)?)(h|ms|us|µs|ns|m|s|$)", text)
    if isinstance(value, bool) or "".join(n + u for n, u in parts) != text or not parts:
        raise UsageError(f"{path}: dial_timeout {value!r}: write a duration such as 30s")
    return sum(float(number) * units.get(unit, 1.0) for number, unit in parts)
