"""The system calls that a step may have answered by knarr, by what they are about, and their numbers.

Spec: the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import os

OWNERS = ("chown", "lchown", "fchown", "fchownat", "mknod", "mknodat")
STATS = ("stat", "lstat", "fstat", "newfstatat", "statx")
ENDS = ("exit_group",)  # how the first process ends, which somebody between it and us does not tell
MODES = ("chmod", "fchmod", "fchmodat")
_ASKED = ("getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid")
USERS_CHANGED = (
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
)
USERS = (*_ASKED, *USERS_CHANGED)

_NUMBERS = {
    "x86_64": (
        0xC000003E,
        {
            "stat": 4,
            "fstat": 5,
            "lstat": 6,
            "chmod": 90,
            "fchmod": 91,
            "chown": 92,
            "fchown": 93,
            "lchown": 94,
            "getuid": 102,
            "getgid": 104,
            "setuid": 105,
            "setgid": 106,
            "geteuid": 107,
            "getegid": 108,
            "setreuid": 113,
            "setregid": 114,
            "setgroups": 116,
            "setresuid": 117,
            "getresuid": 118,
            "setresgid": 119,
            "getresgid": 120,
            "setfsuid": 122,
            "setfsgid": 123,
            "mknod": 133,
            "mknodat": 259,
            "fchownat": 260,
            "newfstatat": 262,
            "fchmodat": 268,
            "exit_group": 231,
            "statx": 332,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "mknodat": 33,
            "fchmod": 52,
            "fchmodat": 53,
            "fchownat": 54,
            "fchown": 55,
            "newfstatat": 79,
            "fstat": 80,
            "setregid": 143,
            "setgid": 144,
            "setreuid": 145,
            "setuid": 146,
            "setresuid": 147,
            "getresuid": 148,
            "setresgid": 149,
            "getresgid": 150,
            "setfsuid": 151,
            "setfsgid": 152,
            "setgroups": 159,
            "getuid": 174,
            "geteuid": 175,
            "getgid": 176,
            "getegid": 177,
            "statx": 291,
            "exit_group": 94,
        },
    ),
}


def numbers() -> tuple[int, dict[str, int]]:
    """The audit number of this machine's architecture and those of its calls; empty for one we do not know."""
    return _NUMBERS.get(os.uname().machine, (0, {}))
