"""The capabilities a step gets: Docker's fourteen, or, when insecure, all that this process may give."""

from __future__ import annotations

from functools import lru_cache

from knarr.record import record

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


@record
class Rights:
    """What a process may do more or less than others: `CAP_…` names, `ALL` for all of them."""

    add: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: bool = True


USUAL = Rights()


def granted(*, insecure: bool, rights: Rights = USUAL) -> frozenset[str]:
    """`CAP_…` names: no runtime can give what this process's own bounding set lacks."""
    if insecure:
        return available()
    base = DEFAULT
    if "ALL" in rights.add:
        base = available()
    if "ALL" in rights.drop:
        base = frozenset()
    return ((base | frozenset(rights.add)) - frozenset(rights.drop)) & available()


def known() -> frozenset[str]:
    """All `CAP_…` names that Linux has."""
    return frozenset(f"CAP_{name}" for name in _NAMES)


@lru_cache(maxsize=1)
def available() -> frozenset[str]:
    """The names in this process's bounding set."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        line = next(line for line in status if line.startswith("CapBnd:"))
    bits = int(line.split()[1], 16)
    return frozenset(f"CAP_{name}" for number, name in enumerate(_NAMES) if bits >> number & 1)
