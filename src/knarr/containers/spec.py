"""What a container was asked to be: written once, when it is created, and never changed.

The record is its file: `encode` gives the bytes, `decode` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from knarr.errors import ContentError
from knarr.record import field, record


@record
class Port:
    """A port of the machine that leads to one of the container. `host` 0: the machine chooses."""

    container: int
    host: int = 0
    host_ip: str = ""  # empty: every address
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.host_ip or '0.0.0.0'}:{self.host}->{self.container}/{self.protocol}"


@record
class ContainerMount:
    """Something shown at `target`: a path of the machine (`bind`), a volume by name, or memory (`tmpfs`)."""

    kind: str
    source: str
    target: str
    readonly: bool = False
    size_bytes: int = 0  # of a tmpfs; 0: the kernel's default
    mode: int = 0o1777
    anonymous: bool = False  # a volume that goes with the container
    copies: bool = True  # a volume that is empty begins with what the image has there
    options: str = "noexec,nosuid,nodev"  # of a tmpfs


@record
class Limit:
    """A resource limit of the process, as setrlimit(2) has it; -1 is no limit."""

    name: str
    soft: int
    hard: int


@record
class ContainerSpec:
    """One container. What the image says stands here already where the command line said nothing."""

    id: str
    name: str
    created_ns: int
    image: str  # as it was asked for
    digest: str  # of the image's manifest
    platform: str
    record: str  # the cache record that its tree stands on
    snapshot: str  # that record's tree; empty: the image has no files
    blobs: tuple[str, ...]  # manifest, config and layers, which must stay
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    hostname: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    terminal: bool = False
    stdin: bool = False
    detached: bool = False
    remove: bool = False
    readonly: bool = False
    privileged: bool = False
    init: bool = False
    mounts: tuple[ContainerMount, ...] = ()
    network: str = "host"
    ports: tuple[Port, ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security: tuple[str, ...] = ()
    shm_size_bytes: int = 64 << 20
    limits: tuple[Limit, ...] = ()
    resources: Mapping[str, int | str] = field(
        default_factory=dict, hash=False
    )  # those of `LinuxResources` that are set
    stop_signal: str = "SIGTERM"
    stop_timeout_s: float = 10.0
    detach_keys: str = "ctrl-p,ctrl-q"

    @property
    def short_id(self) -> str:
        return self.id[:12]


_RECORDS = {"mounts": ContainerMount, "ports": Port, "limits": Limit}


def encode(spec: ContainerSpec) -> bytes:
    """The bytes of the file."""
    told = {name: getattr(spec, name) for name in ContainerSpec.__annotations__}
    for name, kind in _RECORDS.items():
        told[name] = [{key: getattr(one, key) for key in kind.__annotations__} for one in told[name]]
    return json.dumps(told, indent=1).encode()


def decode(raw: bytes, where: str) -> ContainerSpec:
    """Read the file that lies at `where`.

    Raises:
        ContentError: it is not one.
    """
    try:
        told: dict[str, Any] = json.loads(raw)
        values = {name: told[name] for name in ContainerSpec.__annotations__ if name in told}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(tuple(one) if isinstance(one, list) else one for one in value)
        for name, kind in _RECORDS.items():
            values[name] = tuple(kind(**one) for one in values.get(name, ()))
        return ContainerSpec(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentError(
            f"{where} does not describe a container: {error}", hint="`knarr rm --force` removes the container"
        ) from error
