"""The seccomp policy of a sandboxed step, resolved for an architecture and a set of capabilities.

The data lies in seccomp.json: an allow-list. A capability that is granted opens
the system calls it is about. Without CAP_SYS_ADMIN, clone may not make
namespaces, and clone3, whose flags a filter cannot see, answers ENOSYS so that
libc falls back to clone.

Spec: runtime-spec v1.1, config-linux.md, "Seccomp".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

_EPERM = 1
_ENOSYS = 38
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET


@lru_cache(maxsize=8)
def profile(architecture: str, capabilities: frozenset[str]) -> dict[str, Any]:
    """The `linux.seccomp` object for a machine of `architecture` (Go's name) and `CAP_…` names.

    Treat the result as read-only: it is shared.
    """
    data = _data()
    names = set(data["always"])
    names.update(data["by_architecture"].get(architecture, ()))
    for capability, opened in data["by_capability"].items():
        if f"CAP_{capability}" in capabilities:
            names.update(opened)
    rules = [_allow(sorted(names))]
    for case in data["by_argument"]:
        rules += [_allow([case["name"]], case["argument"], op, value) for op, value in case["is_any_of"]]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules += _clone_without_namespaces(architecture)
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": [f"SCMP_ARCH_{name}" for name in data["architectures"].get(architecture, ())],
        "syscalls": rules,
    }


def _clone_without_namespaces(architecture: str) -> Iterable[dict[str, Any]]:
    flags = 1 if architecture == "s390x" else 0  # s390 swaps clone's first two arguments
    clone = _allow(["clone"], flags, "MASKED_EQ", _NEW_NAMESPACES)
    clone["args"][0]["valueTwo"] = 0
    return clone, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}


def _allow(names: list[str], index: int = 0, op: str = "", value: int = 0) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if op:
        rule["args"] = [{"index": index, "value": value, "op": f"SCMP_CMP_{op}"}]
    return rule


def _data() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("seccomp.json").read_bytes())  # type: ignore[no-any-return]
