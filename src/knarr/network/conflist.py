"""What a network is: a name and a chain of CNI plugins.

    network = read("/etc/cni/net.d")  # a file, or a directory, whose first file counts
    network.plugins[0]["type"]        # "bridge"

Spec: CNI 1.0 (containernetworking/cni, SPEC.md), section 1; a single plugin's
file (`.conf`) is a chain of one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knarr.errors import UsageError
from knarr.record import record

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_ENDINGS = (".conflist", ".conf", ".json")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_MAX_BYTES = 1 << 20
_MAX_INTERFACE = 15  # IFNAMSIZ, less the zero


@record
class Network:
    """A chain of plugins; each is what its file says of it. `origin` is where it was read, for messages.

    `arguments` are what all of them are told of who joins, as CNI_ARGS has it.
    """

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    origin: str = ""
    arguments: tuple[tuple[str, str], ...] = ()


def read(path: str) -> Network:
    """The network of a file, or of the first file (by name) of a directory.

    Raises:
        UsageError: there is none, or it cannot be meant.
    """
    file = Path(path)
    if file.is_dir():
        found = sorted(name for name in os.listdir(file) if name.endswith(_ENDINGS))
        if not found:
            raise UsageError(f"{path}: no CNI network is described here", hint="a file NAME.conflist describes one")
        file /= found[0]
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", hint="the path of a CNI configuration is wanted") from error
    return parse(raw, str(file))


def parse(raw: bytes, origin: str) -> Network:
    """The network that `raw` describes.

    Raises:
        UsageError: it is no configuration that a plugin could be asked with.
    """
    try:
        if len(raw) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        said = json.loads(raw)
        _require(isinstance(said, dict), "it is no object")
        plugins = said.get("plugins", [said])
        name, version = said.get("name"), said.get("cniVersion", "0.2.0")
        _require(isinstance(name, str) and _NAME.match(name), f"{name!r} is no name of a network")
        _require(version in VERSIONS, f"cniVersion {version!r} is not known")
        _require(isinstance(plugins, list) and bool(plugins), "it names no plugin")
        for plugin in plugins:
            kind = plugin.get("type") if isinstance(plugin, dict) else None
            _require(isinstance(kind, str) and _NAME.match(kind), f"{kind!r} is no type of a plugin")
    except ValueError as error:
        raise UsageError(f"{origin}: not a CNI configuration: {error}") from error
    return Network(name, version, tuple(plugins), origin)


def bridge(name: str, subnet: str, addresses: Path) -> Network:
    """The network that is built in: a bridge `name` with addresses of `subnet`, masked behind the machine's.

    `addresses` is where the addresses that are given away are noted.

    Raises:
        UsageError: the name cannot be an interface's, or the subnet is none.
    """
    from ipaddress import ip_network

    if not _NAME.match(name) or len(name) > _MAX_INTERFACE:
        raise UsageError(f"{name!r} cannot be the name of a bridge", hint="at most 15 letters, digits, '.', '_', '-'")
    try:
        found = ip_network(subnet)
        if found.num_addresses < 4:
            raise ValueError("it has no addresses to give away")
    except ValueError as error:
        raise UsageError(f"subnet {subnet!r}: {error}", hint="for example 10.177.0.0/16") from error
    everywhere = "::/0" if found.version == 6 else "0.0.0.0/0"
    chain = (
        {
            "type": "bridge",
            "bridge": name,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(addresses),
                "ranges": [[{"subnet": str(found)}]],
                "routes": [{"dst": everywhere}],
            },
        },
        {"type": "firewall", "ingressPolicy": "same-bridge"},
    )
    return Network(name, "1.0.0", chain, "the bridge that is built in")


def _require(held: object, otherwise: str) -> None:
    if not held:
        raise ValueError(otherwise)
