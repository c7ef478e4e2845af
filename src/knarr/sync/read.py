"""Read a sync file, whichever of three forms it has."""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import UsageError
from knarr.sync.task import SyncFile

_MAX_BYTES = 16 << 20


def read_file(
    path: str, environ: Mapping[str, str], *, destinations: tuple[str, ...] = (), scoped: bool = False
) -> SyncFile:
    """The tasks of the file at `path`: knarr's TOML, regsync's YAML or skopeo's YAML.

    Raises:
        UsageError: it cannot be read, or has none of these forms.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    return parse(raw, path, environ, destinations=destinations, scoped=scoped)


def parse(
    raw: bytes, where: str, environ: Mapping[str, str], *, destinations: tuple[str, ...] = (), scoped: bool = False
) -> SyncFile:
    """The same for bytes that were read."""
    from knarr.sync import ownform, regsync, skopeo

    if where.endswith(".toml") or (not where.endswith((".yaml", ".yml")) and _is_toml(raw)):
        return ownform.parse(_toml(raw, where), where)
    data = _yaml(raw, where)
    if skopeo.is_skopeos(data):
        return skopeo.parse(data, where, destinations, scoped=scoped)
    if isinstance(data, dict) and "sync" in data:
        return regsync.parse(data, where, environ)
    raise UsageError(
        f"{where}: is neither knarr's, nor regsync's, nor skopeo's sync file",
        hint="knarr's is TOML with [[sync]], regsync's YAML with sync:, skopeo's YAML with images: under registries",
    )


def _is_toml(raw: bytes) -> bool:
    import tomllib

    try:
        return bool(tomllib.loads(raw.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def _toml(raw: bytes, where: str) -> object:
    import tomllib

    try:
        return tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: is not TOML: {error}") from error


def _yaml(raw: bytes, where: str) -> object:
    import yaml

    try:
        return yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{where}: is not YAML: {' '.join(str(error).split())}") from error
