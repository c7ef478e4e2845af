"""Limits of steps as options of a frontend, and back.

Spec: BuildKit's frontend/dockerui/attr.go at v0.33. `pidslimit` is knarr's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from knarr.errors import UsageError
from knarr.frontend.options import LIMITS
from knarr.llb.ops import LinuxResources


def to_options(limits: LinuxResources) -> dict[str, str]:
    """The options of `limits`; what is not limited is left out."""
    return {name: str(value) for name, value in zip(LIMITS, _values(limits), strict=True) if value}


def from_options(options: Mapping[str, str]) -> LinuxResources:
    """The limits that `options` ask for.

    Raises:
        UsageError: a value that is none.
    """
    cpuset = ("cpusetcpus", "cpusetmems")
    read = (options.get(name, "") if name in cpuset else _number(name, options.get(name, "")) for name in LIMITS)
    return LinuxResources(*read)  # type: ignore[arg-type] # in the order of its fields


def _values(limits: LinuxResources) -> tuple[int | str, ...]:
    return (
        limits.memory_bytes,
        limits.memory_swap_bytes,
        limits.cpu_shares,
        limits.cpu_period_us,
        limits.cpu_quota_us,
        limits.cpuset_cpus,
        limits.cpuset_mems,
        limits.pids,
    )


def _number(name: str, text: str) -> int:
    try:
        value = int(text or "0")
    except ValueError:
        value = 0
    if text and value <= 0 and not (name == "memswap" and value == -1):
        also = "-1 (unlimited) or " if name == "memswap" else ""
        raise UsageError(f"invalid {name} value: {text}: must be {also}> 0")
    return value
