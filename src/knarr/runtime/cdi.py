"""Devices of this machine as their vendors describe them: CDI specifications in directories.

A device is named `vendor.com/class=name`. A step asks for that, for `vendor.com/class` (the
first of the class), for `vendor.com/class=*` (all of it), or for the class that a device's
annotation gives it. What the specification says is then added to the step's container.

Spec: Container Device Interface 1.1; BuildKit's solver/llbsolver/cdidevices (which device is meant).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from knarr.record import field, record

CLASS = "org.mobyproject.buildkit.device.class"
AUTO_ALLOW = "org.mobyproject.buildkit.device.autoallow"
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_KIND = re.compile(r"[A-Za-z](?:[\w.-]*[A-Za-z0-9])?/[A-Za-z](?:[\w-]*[A-Za-z0-9])?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.:-]*[A-Za-z0-9])?", re.ASCII)
_MAX_SPEC_BYTES = 16 << 20
_EDITS = frozenset(
    ("env", "deviceNodes", "netDevices", "hooks", "mounts", "intelRdt", "additionalGids")  # all that version 1.1 has
)


@record
class CdiDevice:
    """One device: what is added to a container for it alone (`edits`), and for any of its file's devices (`shared`)."""

    name: str
    file: Path
    annotations: Mapping[str, str] = field(hash=False)
    edits: Mapping[str, Any] = field(hash=False, repr=False)  # as written, checked to be of the right shape
    shared: Mapping[str, Any] = field(hash=False, repr=False)

    @property
    def kind(self) -> str:
        return self.name.partition("=")[0]

    @property
    def is_for_all(self) -> bool:
        """Whether its specification gives it to any build that asks."""
        return self.annotations.get(AUTO_ALLOW, "") in _TRUE


@record
class DeviceTable:
    """What a machine has. `broken` are the specifications that cannot be read, with the reason."""

    devices: Mapping[str, CdiDevice] = field(hash=False)
    broken: tuple[str, ...] = ()

    def find(self, name: str) -> tuple[CdiDevice, ...]:
        """The devices that `name` means; none when the machine has no such."""
        kind, equals, device = name.partition("=")
        found: list[CdiDevice] = []
        if _KIND.fullmatch(kind):
            of_kind = [known for known in self.devices.values() if known.kind == kind]
            if not equals or not device:
                found = of_kind[:1]
            elif device == "*":
                found = of_kind
            elif name in self.devices:
                found = [self.devices[name]]
        return tuple(found or (known for known in self.devices.values() if known.annotations.get(CLASS) == name))


def read_devices(directories: Iterable[Path]) -> DeviceTable:
    """The devices in the specifications of `directories`; a later directory goes before an earlier one.

    Two files of one directory that describe the same device make it unusable.
    """
    devices: dict[str, CdiDevice] = {}
    broken: list[str] = []
    for directory in directories:
        mine: dict[str, CdiDevice | None] = {}
        for file in _files(directory):
            try:
                for device in _read(file):
                    clash = device.name in mine
                    mine[device.name] = None if clash else device
                    if clash:
                        broken.append(f"{file}: {device.name} is described twice in {directory}")
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                broken.append(f"{file}: {error}")
        for name, found in mine.items():
            if found is not None:
                devices[name] = found
            else:
                devices.pop(name, None)
    return DeviceTable(dict(sorted(devices.items())), tuple(broken))


def _files(directory: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return []
    return [directory / name for name in names if name.endswith((".json", ".yaml", ".yml"))]


def _read(file: Path) -> Iterator[CdiDevice]:
    with file.open("rb") as stream:
        text = stream.read(_MAX_SPEC_BYTES)
    if file.suffix == ".json":
        spec = json.loads(text)
    else:
        import yaml

        try:
            spec = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error).partition("\n")[0]) from error
    kind = spec["kind"]
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no vendor.com/class")
    shared = _checked(spec.get("containerEdits") or {})
    for entry in spec["devices"]:
        if not _NAME.fullmatch(str(entry["name"])):
            raise ValueError(f"{entry['name']!r} is no name of a device")
        said = {**(spec.get("annotations") or {}), **(entry.get("annotations") or {})}
        annotations = {str(key): _text(value) for key, value in said.items()}
        yield CdiDevice(f"{kind}={entry['name']}", file, annotations, _checked(entry["containerEdits"]), shared)


def _text(value: object) -> str:
    """An annotation as text, which YAML may take for a truth value or a number."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked(edits: dict[str, Any]) -> dict[str, Any]:
    unknown = set(edits) - _EDITS
    if unknown:
        raise ValueError(f"containerEdits has an unknown {min(unknown)}")
    for pair in edits.get("env") or ():
        if pair.find("=") < 1:
            raise ValueError(f"env {pair!r} is not NAME=VALUE")
    for entry, keys in (("deviceNodes", ("path",)), ("mounts", ("hostPath", "containerPath"))):
        for item in edits.get(entry) or ():
            if any(not os.path.isabs(item[key]) for key in keys):
                raise ValueError(f"{entry} has a path that is not absolute")
    for hook in edits.get("hooks") or ():
        if not os.path.isabs(hook["path"]) or hook["hookName"] not in HOOKS:
            raise ValueError(f"hook {hook['hookName']!r} cannot be meant")
    return edits


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def edits_of(devices: Sequence[CdiDevice]) -> list[Mapping[str, Any]]:
    """What is added for `devices`, in order; what the devices of one file share, once and first."""
    files: set[Path] = set()
    found: list[Mapping[str, Any]] = []
    for device in devices:
        if device.file not in files:
            files.add(device.file)
            found.append(device.shared)
        found.append(device.edits)
    return found
