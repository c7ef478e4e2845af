"""The network of a container: which one a name means, and how its ports are reached from the machine.

`bridge` is the one that is built in; any other name is that of a CNI configuration. Ports are led to the
container by the plugin `portmap`; a socket of ours stands on each of them meanwhile, so
that two cannot have the same one and nobody else takes it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knarr import linux
from knarr.config import Settings, StepNetwork
from knarr.containers.spec import ContainerSpec, Port
from knarr.errors import KnarrError, NotFound, Unsupported
from knarr.network import conflist, plugins
from knarr.network.conflist import Network
from knarr.network.steps import Lent, Networks
from knarr.record import replace

_NOTHING: Mapping[str, Any] = {}
_CNI_DIRS = ("/etc/cni/net.d",)  # containerd's, nerdctl's and podman's
_PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}


def usual(settings: StepNetwork) -> str:
    """The network of a container that asks for none: a bridge where this process may make one, else the machine's."""
    if settings.mode == "host" or linux.is_root_by_namespace() or os.geteuid() or not linux.may_mount():
        return "host"
    places = settings.plugin_dirs or plugins.PLACES
    return "bridge" if any(os.path.isfile(os.path.join(place, "bridge")) for place in places) else "host"


def network(name: str, settings: StepNetwork, root: Path) -> Network:
    """The network of that name.

    Raises:
        NotFound: there is none.
        UsageError: it cannot be meant as it is described.
    """
    if name == "bridge":
        built_in = conflist.bridge(settings.bridge, settings.subnet, root / "networks")
        return replace(built_in, plugins=(*built_in.plugins, _PORTMAP))
    known = []
    for directory in _CNI_DIRS:
        for file in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
            if file.endswith((".conflist", ".conf", ".json")):
                found = conflist.read(os.path.join(directory, file))
                if found.name == name:
                    return found
                known.append(found.name)
    raise NotFound(f"there is no network {name}", hint=f"there are: {', '.join(['bridge', 'host', 'none', *known])}")


class Joined(Networks):
    """The one namespace of a container; its addresses are known once it is lent."""

    addresses: tuple[str, ...] = ()

    @contextmanager
    def lent(self, owner: str = "", capabilities: Mapping[str, Any] = _NOTHING, name: str = "") -> Iterator[Lent]:
        with super().lent(owner, capabilities, name) as lent:
            self.addresses = lent.addresses
            yield lent


def joined(spec: ContainerSpec, ports: Sequence[Port], settings: Settings) -> Joined | None:
    """What joins the container to its network, and leads `ports` to it; None: it has the machine's, or none.

    Raises:
        Unsupported: the network leads no ports.
    """
    if spec.network in ("host", "none"):
        return None
    wanted = settings.network
    chosen = network(spec.network, wanted, settings.root)
    told: dict[str, Any] = {}
    if ports:
        if not any((plugin.get("capabilities") or {}).get("portMappings") for plugin in chosen.plugins):
            raise Unsupported(
                f"network {chosen.name} ({chosen.origin}) publishes no ports",
                hint='add {"type": "portmap", "capabilities": {"portMappings": true}} to its plugins',
            )
        told["portMappings"] = [_mapping(port) for port in ports]
    return Joined(chosen, wanted.plugin_dirs or plugins.PLACES, settings.run / "networks", capabilities=told)


def _mapping(port: Port) -> dict[str, Any]:
    told = {"hostPort": port.host, "containerPort": port.container, "protocol": port.protocol}
    return {**told, "hostIP": port.host_ip} if port.host_ip else told


class Reserved:
    """Ports of the machine that are this process's, until `close`. `ports` has those that the machine chose, too."""

    def __init__(self, wanted: Sequence[Port]) -> None:
        """Take them.

        Raises:
            KnarrError: somebody has one.
        """
        self._sockets: list[socket.socket] = []
        try:
            self.ports = tuple(self._take(port) for port in wanted)
        except BaseException:
            self.close()
            raise

    def _take(self, port: Port) -> Port:
        family = socket.AF_INET6 if ":" in port.host_ip else socket.AF_INET
        kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[port.protocol]
        taken = socket.socket(family, kind)
        self._sockets.append(taken)
        try:
            if kind == socket.SOCK_STREAM:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((port.host_ip or ("::" if family == socket.AF_INET6 else "0.0.0.0"), port.host))
            if kind == socket.SOCK_STREAM:
                taken.listen(1)  # with SO_REUSEADDR only listening keeps others out
        except OSError as error:
            raise KnarrError(
                f"port {port.host_ip + ':' if port.host_ip else ''}{port.host}/{port.protocol} cannot be published: "
                f"{error.strerror}",
                hint="choose another one, or none (--publish 80) to have one chosen",
            ) from error
        return replace(port, host=taken.getsockname()[1])

    def close(self) -> None:
        for taken in self._sockets:
            taken.close()
