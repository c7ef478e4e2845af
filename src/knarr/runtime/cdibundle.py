"""What CDI devices add to a container: the edits of their specifications in the words of the runtime-spec.

Spec: Container Device Interface 1.1, "CDI JSON Specification"; runtime-spec v1.1, config-linux.md, "Devices".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from knarr.errors import RuntimeFailed
from knarr.runtime.cdi import CdiDevice, edits_of

_TYPES = {stat.S_IFBLK: "b", stat.S_IFCHR: "c", stat.S_IFIFO: "p"}


def mounts(devices: Sequence[CdiDevice], *, bind_nodes: bool) -> list[dict[str, Any]]:
    """The mounts of `devices`. `bind_nodes`: show device nodes as mounts, where the runtime cannot make them."""
    found = []
    for edits in edits_of(devices):
        for mount in edits.get("mounts") or ():
            options = list(mount.get("options") or ("rbind", "rprivate", "ro"))
            kind = mount.get("type") or "bind"
            if kind == "bind" and not {"bind", "rbind"} & set(options):
                options.append("bind")
            found.append(
                {
                    "destination": os.path.normpath(mount["containerPath"]),
                    "type": kind,
                    "source": mount["hostPath"],
                    "options": options,
                }
            )
        for node in (edits.get("deviceNodes") or ()) if bind_nodes else ():
            source = node.get("hostPath") or node["path"]
            options = ["bind", "nosuid", "noexec"]
            found.append({"destination": node["path"], "type": "bind", "source": source, "options": options})
    return found


def add(configuration: dict[str, Any], devices: Sequence[CdiDevice], *, bind_nodes: bool) -> None:
    """Add everything but the mounts of `devices` to a container's configuration.

    Raises:
        RuntimeFailed: a device node is not there.
    """
    process, linux = configuration["process"], configuration["linux"]
    for edits in edits_of(devices):
        process["env"] = _joined_env(process["env"], edits.get("env") or ())
        process["user"]["additionalGids"] += [gid for gid in edits.get("additionalGids") or () if gid]
        for node in edits.get("deviceNodes") or ():
            device = _node(node, process["user"])
            if not bind_nodes:
                known = [other for other in linux.get("devices", ()) if other["path"] != device["path"]]
                linux["devices"] = [*known, device]
            if device["type"] in "bc":
                rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"]}
                linux["resources"]["devices"].append({**rule, "access": node.get("permissions") or "rwm"})
        for interface in edits.get("netDevices") or ():
            linux.setdefault("netDevices", {})[interface["hostInterfaceName"]] = {"name": interface["name"]}
        for hook in edits.get("hooks") or ():
            said = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key)}
            configuration.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(said)
        if edits.get("intelRdt"):
            linux["intelRdt"] = dict(edits["intelRdt"])


def _joined_env(env: Sequence[str], more: Sequence[str]) -> list[str]:
    table = dict(pair.partition("=")[::2] for pair in (*env, *more))
    return [f"{name}={value}" for name, value in table.items()]


def _node(node: Mapping[str, Any], user: Mapping[str, Any]) -> dict[str, Any]:
    """A device node; what the specification leaves open is as on this machine."""
    path = node.get("hostPath") or node["path"]
    kind, major, minor = node.get("type", ""), node.get("major", 0), node.get("minor", 0)
    mode = node.get("fileMode")
    if not (kind and (major or kind == "p")):
        try:
            here = os.lstat(path)
            found = _TYPES[stat.S_IFMT(here.st_mode)]
        except OSError as error:
            raise RuntimeFailed(f"device {path}: {error.strerror}") from error
        except KeyError:
            raise RuntimeFailed(f"device {path}: is no device") from None
        if kind not in ("", found):
            raise RuntimeFailed(f"device {path}: is of the type {found}, not {kind} as its CDI specification says")
        kind, major, minor = found, os.major(here.st_rdev), os.minor(here.st_rdev)
        mode = stat.S_IMODE(here.st_mode) if mode is None else mode
    made: dict[str, Any] = {"path": node["path"], "type": kind, "major": major, "minor": minor}
    if mode is not None:
        made["fileMode"] = mode
    for name in ("uid", "gid"):
        value = node.get(name)
        if value is None and user[name]:
            value = user[name]
        if value is not None:
            made[name] = value
    return made
