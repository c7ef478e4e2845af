"""The container of a Pod as a runtime for Kubernetes starts it: its securityContext as an OCI configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knarr.runtime import capabilities, mounts, seccomp
from knarr.spec.platform import host_platform

FIRST_ID, IDS = 100000, 65536  # of a pod with a user namespace, on the node
_DEVICES = [  # what containers that are not privileged may use: docker's and containerd's default
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    *({"allow": True, "type": "c", "major": 1, "minor": minor, "access": "rwm"} for minor in (3, 5, 7, 8, 9)),
    *({"allow": True, "type": "c", "major": 5, "minor": minor, "access": "rwm"} for minor in (0, 2)),
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
]


def volumes(pod: Mapping[str, Any], place: Path) -> dict[Path, str]:
    """A directory for each emptyDir, as the kubelet makes them: everybody may write."""
    (container,) = pod["containers"]
    empty = {each["name"] for each in pod["volumes"] if "emptyDir" in each}
    found = {}
    for mount in container["volumeMounts"]:
        if mount["name"] in empty:
            directory = place / mount["name"]
            directory.mkdir()
            directory.chmod(0o777)
            found[directory] = mount["mountPath"]
    return found


def changed(configuration: dict[str, Any], pod: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a privileged container, with what the pod does not ask for taken away."""
    (container,) = pod["containers"]
    security = container["securityContext"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    path = next(each for each in configuration["process"]["env"] if each.startswith("PATH="))
    process = {
        **configuration["process"],
        "args": container["command"],
        "env": [path, *(f"{key}={value}" for key, value in environment.items())],
    }
    if security.get("privileged"):
        return {**configuration, "process": process}
    asked = security.get("capabilities", {})
    granted = set() if asked.get("drop") == ["ALL"] else set(capabilities.DEFAULT)
    granted = sorted((granted | {f"CAP_{name}" for name in asked.get("add", [])}) & capabilities.available())
    uid = security.get("runAsUser", 0)
    kinds = ("bounding", "effective", "permitted") if uid == 0 else ("bounding",)
    process["capabilities"] = dict.fromkeys(kinds, granted)
    process["user"] = {"uid": uid, "gid": security.get("runAsGroup", 0)}
    process["noNewPrivileges"] = security.get("allowPrivilegeEscalation") is False
    linux: dict[str, Any] = {**configuration["linux"], "resources": {"devices": _DEVICES}}
    if security.get("procMount") != "Unmasked":
        linux["maskedPaths"], linux["readonlyPaths"] = list(mounts.MASKED), list(mounts.READONLY)
    if security["seccompProfile"]["type"] == "RuntimeDefault":
        linux["seccomp"] = seccomp.profile(host_platform().architecture, frozenset(granted))
    if pod.get("hostUsers") is False:
        linux["namespaces"] = [*linux["namespaces"], {"type": "user"}]
        mapping = [{"containerID": 0, "hostID": FIRST_ID, "size": IDS}]
        linux["uidMappings"] = linux["gidMappings"] = mapping
    quiet = [_read_only(each) if each["destination"].startswith("/sys") else each for each in configuration["mounts"]]
    return {**configuration, "process": process, "linux": linux, "mounts": quiet}


def _read_only(mount: dict[str, Any]) -> dict[str, Any]:
    return {**mount, "options": [*mount["options"], "ro"]}
