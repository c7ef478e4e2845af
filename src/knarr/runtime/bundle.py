"""The OCI runtime configuration of a step: `ProcessSpec` as config.json.

What a step may do follows Docker's and containerd's defaults, as BuildKit's
does: fourteen capabilities, the default seccomp policy, masked and read-only
paths. `insecure` lifts all of that.

Spec: runtime-spec v1.1, config.md and config-linux.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knarr.errors import UsageError
from knarr.paths import clean
from knarr.record import record
from knarr.runtime import capabilities, filterprogram, mounts, seccomp
from knarr.runtime.process import ProcessSpec, Ulimit
from knarr.runtime.users import User
from knarr.spec.platform import host_platform

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RLIMITS = frozenset(
    (
        *("as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"),
        *("rtprio", "rttime", "sigpending", "stack"),
    )
)
_UMASK = 0o022
_INSECURE_DEVICES = (
    ("/dev/kmsg", "c", 1, 11),
    ("/dev/cuse", "c", 10, 203),
    ("/dev/fuse", "c", 10, 229),
    ("/dev/kvm", "c", 10, 232),
    ("/dev/net/tun", "c", 10, 200),
    ("/dev/loop-control", "c", 10, 237),
    *((f"/dev/loop{number}", "b", 7, number) for number in range(8)),
)


@record
class Surroundings:
    """What the machine adds to a step: facts of the caller, not of the step."""

    mounts: Sequence[mounts.OciMount]
    cgroup: str  # path below the cgroup root; empty: no cgroup
    network_namespace: str = ""  # path of one to join
    user_namespace: str = ""  # the same
    uid_map: Sequence[tuple[int, int]] = ()  # its (first id, count) pairs: identity
    gid_map: Sequence[tuple[int, int]] = ()
    masked: Sequence[str] = ()  # besides the usual ones
    filter_cache: Path | None = None  # where compiled seccomp programs lie, if the runtime takes one


def configuration(spec: ProcessSpec, user: User, around: Surroundings) -> dict[str, Any]:
    """The config.json of a step.

    Raises:
        UsageError: a ulimit is not one.
    """
    insecure = spec.security == "insecure"
    program = ""
    if around.filter_cache is not None and not insecure and spec.rights.seccomp:
        program = filterprogram.compiled(*_policy(spec), around.filter_cache)
    return {
        "ociVersion": "1.0.2",  # what runc 1.1 and crun 1.8 know
        "process": process(spec, user, insecure=insecure),
        "root": {"path": os.fspath(spec.rootfs), "readonly": spec.readonly_root},
        "hostname": spec.hostname,
        "mounts": list(around.mounts),
        "linux": _linux(spec, around, insecure),
        "annotations": {filterprogram.ANNOTATION: program} if program else {},
    }


def environment(spec: ProcessSpec, user: User) -> list[str]:
    """The step's variables, a later one replacing an earlier; PATH first and HOME last when they are missing."""
    table: dict[str, str] = {}
    for pair in spec.env:
        name, _, value = pair.partition("=")
        table[name] = value
    head = {} if "PATH" in table else {"PATH": PATH}
    tail = {} if "HOME" in table else {"HOME": user.home}
    return [f"{name}={value}" for name, value in (head | table | tail).items()]


def process(spec: ProcessSpec, user: User, *, insecure: bool) -> dict[str, Any]:
    """What the runtime is told of a process, be it the first of a container or a further one."""
    granted = sorted(capabilities.granted(insecure=insecure, rights=spec.rights))
    sets: dict[str, list[str]] = {"bounding": granted, "effective": granted, "permitted": granted}
    if insecure:
        sets |= {"inheritable": granted, "ambient": granted}
    told: dict[str, Any] = {
        "terminal": spec.terminal,
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "umask": _UMASK,
            "additionalGids": [user.gid, *user.groups],
        },
        "args": list(spec.args),
        "env": environment(spec, user),
        "cwd": clean(spec.cwd),
        "capabilities": sets,
        "noNewPrivileges": spec.rights.no_new_privileges,  # usually not: sudo and ping work in a RUN
    }
    if spec.ulimits:
        told["rlimits"] = [_rlimit(limit) for limit in spec.ulimits]
    return told


def _rlimit(limit: Ulimit) -> dict[str, Any]:
    if limit.name.lower() not in _RLIMITS:
        raise UsageError(f"ulimit {limit.name}: not known", hint=f"use one of: {', '.join(sorted(_RLIMITS))}")
    most = 2**64 - 1  # -1 is "unlimited" on the command line
    return {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft & most, "hard": limit.hard & most}


def _linux(spec: ProcessSpec, around: Surroundings, insecure: bool) -> dict[str, Any]:
    allow = [{"allow": True, "type": kind, "access": "rwm"} for kind in "cb"] if insecure else []
    linux: dict[str, Any] = {
        "namespaces": _namespaces(spec, around),
        "resources": {"devices": [{"allow": False, "access": "rwm"}, *allow]},
    }
    if spec.limits is not None:
        from knarr.runtime.limits import resources

        linux["resources"] |= resources(spec.limits)
    if around.cgroup:
        linux["cgroupsPath"] = around.cgroup
    if around.user_namespace:  # runc 1.1 wants the maps told, though it only joins
        linux |= {"uidMappings": _ids(around.uid_map), "gidMappings": _ids(around.gid_map)}
    if insecure:
        if not around.user_namespace:  # there, the runtime cannot make device nodes
            linux["devices"] = [_device(*device) for device in _INSECURE_DEVICES]
        return linux
    if spec.rights.seccomp:
        linux["seccomp"] = seccomp.profile(*_policy(spec))
    linux["maskedPaths"] = [*mounts.MASKED, *around.masked]
    linux["readonlyPaths"] = list(mounts.READONLY)
    return linux


def _policy(spec: ProcessSpec) -> tuple[str, frozenset[str]]:
    """What decides the seccomp policy: the machine that runs the kernel, also for foreign steps, and the rights."""
    return host_platform().architecture, capabilities.granted(insecure=False, rights=spec.rights)


def _ids(ranges: Sequence[tuple[int, int]]) -> list[dict[str, int]]:
    return [{"containerID": first, "hostID": first, "size": count} for first, count in ranges]


def _namespaces(spec: ProcessSpec, around: Surroundings) -> list[dict[str, str]]:
    kinds = ["pid", "ipc", "uts", "mount"]
    if spec.network == "none":
        kinds.append("network")
    if os.path.exists("/sys/fs/cgroup/cgroup.subtree_control"):
        kinds.append("cgroup")  # with v1, runc 1.1 stumbles over hierarchies it does not know
    spaces = [{"type": kind} for kind in kinds]
    if around.network_namespace:
        spaces.append({"type": "network", "path": around.network_namespace})
    if around.user_namespace:
        spaces.append({"type": "user", "path": around.user_namespace})
    return spaces


def _device(path: str, kind: str, major: int, minor: int) -> dict[str, Any]:
    return {"path": path, "type": kind, "major": major, "minor": minor, "fileMode": 0o660, "uid": 0, "gid": 0}
