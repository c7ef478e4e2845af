"""What `--volume`, `--mount` and `--tmpfs` ask for, read as docker reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knarr.cli.buildvalues import csv_fields, size_bytes
from knarr.containers.spec import ContainerMount
from knarr.containers.volumes import check_name
from knarr.errors import UsageError
from knarr.paths import clean

if TYPE_CHECKING:
    from knarr.cli.flags import Parsed

_OPTIONS = ("ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", "rprivate", "private")
_SWITCHES = ("readonly", "ro", "volume-nocopy")


def mounts_of(given: Parsed) -> tuple[ContainerMount, ...]:
    """All mounts of a command line.

    Raises:
        UsageError: one cannot be meant, or two have the same target.
    """
    found = [
        *(_volume(text) for text in given.list("volume")),
        *(_mount(text) for text in given.list("mount")),
        *(_tmpfs(text) for text in given.list("tmpfs")),
    ]
    seen: set[str] = set()
    for mount in found:
        if mount.target in seen:
            raise UsageError(f"two mounts have the same target {mount.target}")
        seen.add(mount.target)
    return tuple(found)


def _volume(text: str) -> ContainerMount:
    parts = text.split(":")
    if len(parts) == 1:
        return ContainerMount("volume", os.urandom(32).hex(), _target("volume", text, parts[0]), anonymous=True)
    if len(parts) > 3 or not parts[0]:
        raise UsageError(f"--volume {text}: not SOURCE:TARGET[:OPTIONS]", hint="--mount takes paths with colons")
    source, target = parts[0], _target("volume", text, parts[1])
    options = parts[2].split(",") if len(parts) == 3 else []
    for option in options:
        if option not in _OPTIONS:
            raise UsageError(f"--volume {text}: option {option!r} is not known", hint="use ro, rw or nocopy")
    return _shown(source, target, readonly="ro" in options, copies="nocopy" not in options, makes=True)


def _shown(source: str, target: str, *, readonly: bool, copies: bool, makes: bool) -> ContainerMount:
    """A directory of this machine where the source is a path (made if it is missing, as by docker), else a volume."""
    if source.startswith(("/", ".", "~")) or "/" in source:
        path = os.path.abspath(os.path.expanduser(source))
        if makes and not os.path.lexists(path):
            os.makedirs(path, exist_ok=True)
        return ContainerMount("bind", path, target, readonly)
    check_name(source)
    return ContainerMount("volume", source, target, readonly, copies=copies)


def _mount(text: str) -> ContainerMount:
    values: dict[str, str] = {}
    for word in csv_fields(text):
        key, equals, value = word.partition("=")
        if not equals and key not in _SWITCHES:
            raise UsageError(f"--mount {text}: {word!r} is not KEY=VALUE")
        values[_KEYS.get(key, key)] = value if equals else "true"
    kind = values.pop("type", "volume")
    known = {"bind": _BIND, "volume": _VOLUME, "tmpfs": _TMPFS}.get(kind)
    if known is None:
        raise UsageError(f"--mount {text}: type {kind!r} is not known", hint="use bind, volume or tmpfs")
    for key in values:
        if key not in known:
            raise UsageError(f"--mount {text}: {key!r} is not known for {kind}", hint=f"use {', '.join(known)}")
    target = _target("mount", text, values.get("target", ""))
    readonly = _flag(text, values.get("readonly", "false"))
    source = values.get("source", "")
    if kind == "tmpfs":
        return ContainerMount("tmpfs", "", target, readonly, *_tmpfs_size(text, values))
    if kind == "bind":
        if not source:
            raise UsageError(f"--mount {text}: there is no source")
        path = os.path.abspath(os.path.expanduser(source))
        if not os.path.exists(path):
            raise UsageError(f"--mount {text}: {path} is not on this machine")
        if values.get("bind-propagation", "rprivate") not in ("rprivate", "private"):
            raise UsageError(
                f"--mount {text}: mounts do not pass between the machine and a container",
                hint="leave bind-propagation out, or say rprivate",
            )
        return ContainerMount("bind", path, target, readonly)
    copies = not _flag(text, values.get("volume-nocopy", "false"))
    if not source:
        return ContainerMount("volume", os.urandom(32).hex(), target, readonly, anonymous=True, copies=copies)
    check_name(source)
    return ContainerMount("volume", source, target, readonly, copies=copies)


_KEYS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_BIND: Sequence[str] = ("source", "target", "readonly", "bind-propagation", "consistency")
_VOLUME: Sequence[str] = ("source", "target", "readonly", "volume-nocopy")
_TMPFS: Sequence[str] = ("target", "readonly", "tmpfs-size", "tmpfs-mode")


def _tmpfs(text: str) -> ContainerMount:
    target, _, options = text.partition(":")
    size, mode, readonly = 0, 0o1777, False
    may = dict.fromkeys(("exec", "suid", "dev"), False)  # as docker has it
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size":
            size = size_bytes("--tmpfs", value)
        elif key == "mode":
            mode = _mode(f"--tmpfs {text}", value)
        elif key == "ro":
            readonly = True
        elif key.removeprefix("no") in may:
            may[key.removeprefix("no")] = not key.startswith("no")
        elif key != "rw":
            raise UsageError(f"--tmpfs {text}: option {key!r} is not known", hint="use size=, mode=, exec, ro or rw")
    options = ",".join(f"no{name}" for name, is_allowed in may.items() if not is_allowed)
    return ContainerMount("tmpfs", "", _target("tmpfs", text, target), readonly, size, mode, options=options)


def _tmpfs_size(text: str, values: dict[str, str]) -> tuple[int, int]:
    size = size_bytes("--mount tmpfs-size", values["tmpfs-size"]) if "tmpfs-size" in values else 0
    return size, _mode(f"--mount {text}", values["tmpfs-mode"]) if "tmpfs-mode" in values else 0o1777


def _mode(where: str, text: str) -> int:
    try:
        found = int(text, 8)
    except ValueError:
        found = -1
    if not 0 <= found <= 0o7777:
        raise UsageError(f"{where}: {text!r} is no mode", hint="an octal number such as 1777")
    return found


def _flag(text: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise UsageError(f"--mount {text}: {value!r} is neither true nor false")
    return value.lower() in ("true", "1")


def _target(flag: str, text: str, target: str) -> str:
    if not target.startswith("/"):
        raise UsageError(f"--{flag} {text}: the target must be an absolute path of the container")
    if clean(target) == "/":
        raise UsageError(f"--{flag} {text}: nothing can be shown at the root itself")
    return clean(target)
