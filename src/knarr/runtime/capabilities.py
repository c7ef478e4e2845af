"""The capabilities a step gets: Docker's fourteen, or, when insecure, all that this process may give."""

from __future__ import annotations

from functools import lru_cache

# In the order of their numbers, linux/capability.h.
_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
DEFAULT = frozenset(
    (
        *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
        *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
        "CAP_AUDIT_WRITE",
    )
)


def granted(*, insecure: bool) -> frozenset[str]:
    """`CAP_…` names: no runtime can give what this process's own bounding set lacks."""
    return available() if insecure else DEFAULT & available()


@lru_cache(maxsize=1)
def available() -> frozenset[str]:
    """The names in this process's bounding set."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("CapBnd:"))
    bits = int(line.split()[1], 16)
    return frozenset(f"CAP_{name}" for number, name in enumerate(_NAMES) if bits >> number & 1)
