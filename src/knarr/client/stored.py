"""The builders that a user has named: where they are, and which of them is used when nothing is said.

Each is a file `NAME.json` below the user's configuration; the file `current` holds the
name of the one in use. buildx keeps its own elsewhere, and they are not touched.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knarr.client.address import read_address
from knarr.client.tls import Tls
from knarr.errors import KnarrError, UsageError
from knarr.record import record, replace
from knarr.spec.platform import Platform

DEFAULT = "default"  # no builder: the process itself
CURRENT = "current"
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,63}")


@record
class Node:
    """One buildkitd. `platforms` are those that are built there; none: what it says of itself."""

    name: str
    address: str
    tls: Tls = Tls()
    platforms: tuple[Platform, ...] = ()


@record
class StoredBuilder:
    """A name, and one buildkitd or several."""

    name: str
    nodes: tuple[Node, ...]


def directory(environ: Mapping[str, str]) -> str:
    """Where they are kept; "" when the user has no home. Cheap: a warm build asks."""
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
    return os.path.join(config, "knarr", "builders") if config else ""


class Builders:
    """Those of one user."""

    def __init__(self, directory: str) -> None:
        if not directory:
            raise UsageError("there is no place for builders", hint="set HOME or XDG_CONFIG_HOME")
        self._directory = Path(directory)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        if not self._directory.is_dir():
            return ()
        return tuple(sorted(path.stem for path in self._directory.glob("*.json")))

    def get(self, name: str) -> StoredBuilder:
        """The builder `name`.

        Raises:
            UsageError: there is none, or its file is not what it should be.
        """
        path = self._path(name)
        try:
            return _decoded(name, json.loads(path.read_bytes()))
        except FileNotFoundError:
            known = ", ".join(self.names()) or "none"
            hint = f"builders are: {known}; an address (tcp://…) needs no name"
            raise UsageError(f"no builder is called {name}", hint=hint) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} cannot be read: {error}", hint=f"remove it: knarr builder rm {name}") from error

    def save(self, builder: StoredBuilder) -> None:
        """Keep a builder, in the place of one of the same name."""
        self._write(self._path(builder.name), json.dumps(_encoded(builder), indent=2) + "\n")

    def remove(self, name: str) -> bool:
        """Forget one. False: there was none."""
        if self.current() == name:
            self.use("")
        try:
            self._path(name).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise KnarrError(f"{error.filename}: {error.strerror}") from error
        return True

    def current(self) -> str:
        """The name of the one in use; "" when builds are made in the process itself."""
        try:
            name = (self._directory / CURRENT).read_text().strip()
        except OSError:
            return ""
        return name if _NAME.fullmatch(name) else ""

    def use(self, name: str) -> None:
        """Use `name` from now on, "" for none."""
        if name:
            self.get(name)
            self._write(self._directory / CURRENT, f"{name}\n")
        else:
            (self._directory / CURRENT).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a builder", hint="use letters, digits, `-`, `_` and `.`")
        return self._directory / f"{name}.json"

    def _write(self, path: Path, text: str) -> None:
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.write_text(text)
            fresh.replace(path)
        except OSError as error:
            raise KnarrError(f"{path}: {error.strerror}") from error


def with_node(builder: StoredBuilder, node: Node) -> StoredBuilder:
    """`builder` with `node`, in the place of one of the same name."""
    others = tuple(known for known in builder.nodes if known.name != node.name)
    return replace(builder, nodes=(*others, node))


def _encoded(builder: StoredBuilder) -> dict[str, Any]:
    nodes = [
        {
            "name": node.name,
            "address": node.address,
            "tls": {key: value for key in ("ca", "cert", "key", "server_name") if (value := getattr(node.tls, key))},
            "platforms": [str(platform) for platform in node.platforms],
        }
        for node in builder.nodes
    ]
    return {"name": builder.name, "nodes": nodes}


def _decoded(name: str, data: Any) -> StoredBuilder:
    nodes = []
    for found in data["nodes"]:
        read_address(found["address"])
        platforms = tuple(Platform.parse(text) for text in found.get("platforms", ()))
        nodes.append(Node(found["name"], found["address"], Tls(**found.get("tls", {})), platforms))
    if not nodes:
        raise ValueError("it has no nodes")
    return StoredBuilder(name, tuple(nodes))
