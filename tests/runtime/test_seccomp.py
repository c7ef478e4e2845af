from __future__ import annotations

from typing import Any

import pytest

from knarr.runtime import capabilities, seccomp

DEFAULT = frozenset(capabilities.DEFAULT)


def names(profile: dict[str, Any]) -> set[str]:
    return {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule
        for name in rule["names"]
    }


def test_what_escapes_a_sandbox_is_not_allowed() -> None:
    allowed = names(seccomp.profile("amd64", DEFAULT))
    assert (
        allowed & {"mount", "umount2", "unshare", "setns", "bpf", "keyctl", "add_key", "reboot", "kexec_load"} == set()
    )
    assert {"read", "openat", "execve", "chroot", "ptrace", "io_uring_setup"} & allowed == {
        "read",
        "openat",
        "execve",
        "chroot",
        "ptrace",
    }


def test_a_capability_opens_its_calls() -> None:
    allowed = names(seccomp.profile("amd64", DEFAULT | {"CAP_SYS_ADMIN"}))
    assert {"mount", "clone", "clone3", "unshare"} <= allowed
    assert "chroot" not in names(seccomp.profile("amd64", DEFAULT - {"CAP_SYS_CHROOT"}))


def test_clone_makes_no_namespaces_and_clone3_is_unknown() -> None:
    rules = seccomp.profile("amd64", DEFAULT)["syscalls"]
    assert rules[-2]["names"] == ["clone"]
    assert rules[-2]["args"] == [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]
    assert rules[-1] == {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}


@pytest.mark.parametrize(
    "architecture", ["amd64", "386", "arm64", "arm", "ppc64le", "riscv64", "s390x", "mips64le", "loong64"]
)
def test_each_architecture_has_a_profile(architecture: str) -> None:
    profile = seccomp.profile(architecture, DEFAULT)
    assert profile["architectures"]
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"


def test_amd64_also_means_its_older_kin() -> None:
    assert seccomp.profile("amd64", DEFAULT)["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert "arch_prctl" in names(seccomp.profile("amd64", DEFAULT))
    assert "arch_prctl" not in names(seccomp.profile("arm64", DEFAULT))
