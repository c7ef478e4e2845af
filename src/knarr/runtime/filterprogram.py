"""The seccomp policy compiled to the kernel's filter program, once per machine instead of once per step.

crun 1.8 compiles the policy for three architectures at every start: 12 of its
18 ms. It takes a ready program in an annotation as well (run.oci.seccomp_bpf_data,
crun(1)); this module makes that program with the libseccomp that crun itself
uses, and keeps it on disk under a name made of all it depends on. The policy
stays in the bundle besides, so a crun that does not know the annotation is no
less strict.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from knarr.runtime import seccomp

ANNOTATION = "run.oci.seccomp_bpf_data"
_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN_SYSCALL = -1
_OPERATORS = {"NE": 1, "LT": 2, "LE": 3, "EQ": 4, "GE": 5, "GT": 6, "MASKED_EQ": 7}


@lru_cache(maxsize=8)
def compiled(architecture: str, capabilities: frozenset[str], cache: Path) -> str:
    """The program of `seccomp.profile(architecture, capabilities)`, in base64; empty when it cannot be made here."""
    import base64

    profile = seccomp.profile(architecture, capabilities)
    key = json.dumps([profile, os.uname().machine, _library_version()]).encode()
    path = cache / f"{hashlib.sha256(key).hexdigest()[:32]}.bpf"
    try:
        program = path.read_bytes()
    except OSError:
        program = _compile_into(profile, path)
    return base64.b64encode(program).decode()


def _library_version() -> str:
    """What tells one libseccomp from another without loading it: newer ones know more system calls."""
    for place in ("/lib", "/usr/lib", "/lib64", "/usr/lib64"):
        for directory in (place, f"{place}/{os.uname().machine}-linux-gnu"):
            try:
                return os.path.realpath(f"{directory}/{_LIBRARY}", strict=True)
            except OSError:
                continue
    return ""


def _compile_into(profile: Mapping[str, Any], path: Path) -> bytes:
    os.makedirs(path.parent, mode=0o711, exist_ok=True)
    unfinished = f"{path}.{os.urandom(4).hex()}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "rb") as file:
        try:
            _compile(profile, descriptor)
            file.seek(0)
            program = file.read()
        except (OSError, AttributeError):  # no libseccomp, or one that refuses: the runtime compiles
            program = b""
    if program:
        os.rename(unfinished, path)
    else:
        os.unlink(unfinished)
    return program


def _compile(profile: Mapping[str, Any], descriptor: int) -> None:
    import ctypes

    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ERRNO | profile["defaultErrnoRet"])))
    try:
        for name in profile["architectures"]:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            library.seccomp_arch_add(context, ctypes.c_uint32(token))  # the native one is there already
        for rule in profile["syscalls"]:
            _add(library, context, rule)
        _check(library.seccomp_export_bpf(context, descriptor))
    finally:
        library.seccomp_release(context)


def _add(library: Any, context: Any, rule: Mapping[str, Any]) -> None:
    import ctypes

    class Comparison(ctypes.Structure):
        """libseccomp's struct scmp_arg_cmp."""

        _fields_ = (
            ("argument", ctypes.c_uint),
            ("operator", ctypes.c_int),
            ("first", ctypes.c_uint64),
            ("second", ctypes.c_uint64),
        )

    allowed = rule["action"] == "SCMP_ACT_ALLOW"
    action = ctypes.c_uint32(_ALLOW if allowed else _ERRNO | rule["errnoRet"])
    wanted = rule.get("args", ())
    comparisons = (Comparison * len(wanted))()
    for place, argument in zip(comparisons, wanted, strict=True):
        place.argument = argument["index"]
        place.operator = _OPERATORS[argument["op"].removeprefix("SCMP_CMP_")]
        place.first = argument["value"]
        place.second = argument.get("valueTwo", 0)
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != _UNKNOWN_SYSCALL:  # newer than this library: not allowed, as with the runtimes
            _check(library.seccomp_rule_add_array(context, action, number, len(wanted), comparisons))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
