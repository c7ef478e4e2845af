"""One configuration for both: buildkitd.toml, with a table [serve] for the registry.

    [grpc]
      address = ["tcp://0.0.0.0:1234"]

    [serve]
      names = ["registry.corp.example"]
      listen = "0.0.0.0:5000"
      [serve.tls]
        certificate = "server.crt"
        key = "server.key"

What [serve] may say besides `names` is what a registry's own file says.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from knarr.errors import UsageError
from knarr.record import record
from knarr.registry import configfile
from knarr.registry.settings import ServerSettings

TABLE = "serve"


@record
class Told:
    """What [serve] says."""

    registry: ServerSettings = ServerSettings()
    names: tuple[str, ...] = ()


def read(path: Path) -> Told:
    """The table of the file at `path`; nothing where it has none.

    Raises:
        UsageError: it cannot be read, or says something that cannot be meant.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    table = data.get(TABLE, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: {TABLE} is a table: [{TABLE}]")
    names = table.pop("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path}: {TABLE}.names must be a list of texts")
    return Told(configfile.settings(path, table, ServerSettings(), table=TABLE), tuple(names))
