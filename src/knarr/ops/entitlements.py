"""What a build may do only when its caller allows it: the host's network, all privileges, devices.

A Dockerfile that somebody else wrote cannot take these for itself; `--allow` gives them.

Spec: BuildKit's util/entitlements and solver/llbsolver/vertex.go (which devices are meant by an alias).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, UsageError
from knarr.llb.ops import CDIDevice, ExecOp, NetMode, SecurityMode, Vertex
from knarr.record import field, record

if TYPE_CHECKING:
    from knarr.runtime.cdi import CdiDevice, DeviceTable

NETWORK_HOST = "network.host"
SECURITY_INSECURE = "security.insecure"
DEVICE = "device"
_KNOWN = (NETWORK_HOST, SECURITY_INSECURE, DEVICE)


@record
class Allowed:
    """What the caller of a build allows. `aliases` are names of devices as the build calls them, and what is meant."""

    plain: frozenset[str] = frozenset()
    all_devices: bool = False
    devices: frozenset[str] = frozenset()
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse(texts: Iterable[str]) -> Allowed:
    """Read `network.host`, `security.insecure`, `device`, `device=NAME` and `device=NAME,alias=ALIAS`.

    Raises:
        UsageError: something else.
    """
    plain: set[str] = set()
    devices: set[str] = set()
    aliases: dict[str, str] = {}
    all_devices = False
    for text in texts:
        key, equals, rest = text.partition("=")
        if key == DEVICE and rest:
            name, comma, more = rest.partition(",")
            alias = more.removeprefix("alias=")
            if comma and (not alias or alias == more):
                raise UsageError(
                    f"--allow {text}: {more!r} cannot be meant", hint="write --allow device=NAME,alias=ALIAS"
                )
            if comma:
                aliases[alias] = name
            else:
                devices.add(name)
        elif key == DEVICE:
            all_devices = True
        elif text in _KNOWN and not equals:
            plain.add(text)
        else:
            raise UsageError(f"--allow {text}: not known", hint=f"known are: {', '.join(_KNOWN)}, device=NAME")
    return Allowed(frozenset(plain), all_devices, frozenset(devices), aliases)


def check(vertices: Iterable[Vertex], allowed: Allowed, cdi_directories: Sequence[Path]) -> None:
    """See that nothing is asked for that is not allowed; nothing has run yet.

    Raises:
        KnarrError: with the place of the first one, and what would allow it.
    """
    for vertex in vertices:
        op = vertex.op
        if not isinstance(op, ExecOp):
            continue
        try:
            _check_plain(op, allowed)
            if op.cdi_devices:
                devices_of(op.cdi_devices, allowed, cdi_directories)
        except KnarrError as error:
            raise error.with_context(span=vertex.spans[0] if vertex.spans else None) from None


def _check_plain(op: ExecOp, allowed: Allowed) -> None:
    asked = (
        (NETWORK_HOST, op.network is NetMode.HOST),
        (SECURITY_INSECURE, op.security is SecurityMode.INSECURE),
    )
    for name, is_asked in asked:
        if is_asked and name not in allowed.plain:
            raise KnarrError(
                f"entitlement {name} is not allowed", hint=f"if you trust this build with it: --allow {name}"
            )


def devices_of(
    asked: Sequence[CDIDevice], allowed: Allowed, directories: Sequence[Path]
) -> tuple[tuple[CdiDevice, ...], tuple[str, ...]]:
    """(the devices that a step gets, the names of optional ones that this machine does not have).

    Raises:
        KnarrError: a device that is not allowed, or a required one that is not there.
    """
    from knarr.runtime.cdi import read_devices

    table = read_devices(directories)
    granted = {device.name for name in allowed.devices for device in table.find(name)}
    found: dict[str, CdiDevice] = {}
    missing: list[str] = []
    for wanted in asked:
        name = allowed.aliases.get(wanted.name, wanted.name)
        devices = table.find(name)
        if not devices and not wanted.optional:
            raise _not_there(name, table)
        if not devices:
            missing.append(name)
        for device in devices:
            is_allowed = allowed.all_devices or wanted.name in allowed.aliases or device.name in granted
            if not is_allowed and not device.is_for_all:
                raise KnarrError(
                    f"device {device.name} is requested by the build but not allowed",
                    hint=f"if you trust this build with it: --allow device={device.name}",
                )
            found[device.name] = device
    return tuple(found.values()), tuple(missing)


def _not_there(name: str, table: DeviceTable) -> KnarrError:
    if table.broken:
        return KnarrError(f"required device {name} is not registered", hint=f"not read: {table.broken[0]}")
    known = ", ".join(table.devices) or "none"
    return KnarrError(f"required device {name} is not registered", hint=f"CDI devices of this machine: {known}")
