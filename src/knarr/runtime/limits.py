"""What a container may take of the machine at most, as the runtime is told, and whether that can be had here.

    spec = ProcessSpec(tree, ("make",), limits=LinuxResources(memory_bytes=2 << 30, pids=500))

The runtime puts limits into the container's control group. Where no group can be made, or
without a controller that is wanted, the container is refused: a limit is never left out.

Spec: runtime-spec v1.1, config-linux.md, "Control groups"; cgroup-v2.rst of the kernel, "Controllers".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from knarr.errors import UsageError
from knarr.llb.ops import LinuxResources

CPU_PERIOD_US = 100_000  # the kernel's own, and docker's
_MIN_CPU_QUOTA_US = 1_000  # less the kernel refuses
_MIN_MEMORY_BYTES = 6 << 20  # docker's: with less no runtime gets as far as its program
_MAX_NUMBER = 8192  # of processors and memory nodes: BuildKit's bound


def resources(limits: LinuxResources) -> dict[str, Any]:
    """The limits as `linux.resources` of config.json has them."""
    memory: dict[str, Any] = {"limit": limits.memory_bytes, "swap": limits.memory_swap_bytes}
    cpu: dict[str, Any] = {
        "shares": limits.cpu_shares,
        "quota": limits.cpu_quota_us,
        "period": limits.cpu_period_us,
        "cpus": limits.cpuset_cpus,
        "mems": limits.cpuset_mems,
    }
    told = {"memory": memory, "cpu": cpu, "pids": {"limit": limits.pids}}
    said = {subject: {name: value for name, value in table.items() if value} for subject, table in told.items()}
    return {subject: table for subject, table in said.items() if table}


def controllers(limits: LinuxResources) -> set[str]:
    """The controllers of the kernel that keep to `limits`."""
    return {name for name, _ in _said(limits)}


def in_words(limits: LinuxResources, controller: str = "") -> str:
    """The limits, or those of one controller, as `--resource` takes them."""
    return ",".join(text for name, text in _said(limits) if controller in ("", name))


def check(limits: LinuxResources) -> None:
    """Refuse what no kernel would take, before anything runs.

    Raises:
        UsageError: with the limit and what it may be.
    """
    memory, swap = limits.memory_bytes, limits.memory_swap_bytes
    if memory and memory < _MIN_MEMORY_BYTES:
        raise UsageError(f"memory={memory}: too little for any container", hint="give it 6m at least")
    if swap and not memory:
        raise UsageError("memory-swap: wants a limit of memory", hint="add memory=SIZE; memory-swap is both together")
    if 0 < swap < memory:
        raise UsageError(
            f"memory-swap={swap}: less than memory={memory}", hint="it is memory and swap together; -1: no limit"
        )
    if limits.cpu_quota_us and limits.cpu_quota_us < _MIN_CPU_QUOTA_US:
        raise UsageError(f"cpu-quota={limits.cpu_quota_us}: too little", hint="it is in microseconds, 1000 or more")
    if limits.cpu_period_us and not 1_000 <= limits.cpu_period_us <= 1_000_000:
        raise UsageError(f"cpu-period={limits.cpu_period_us}: not possible", hint="microseconds, 1000 to 1000000")
    if limits.cpu_shares and limits.cpu_shares < 2:
        raise UsageError(f"cpu-shares={limits.cpu_shares}: too few", hint="2 to 262144; others have 1024")
    for name, text in (("cpuset-cpus", limits.cpuset_cpus), ("cpuset-mems", limits.cpuset_mems)):
        if text and not _is_cpuset(text):
            raise UsageError(f"{name}={text}: not a list of numbers", hint="such as 0-3 or 0,2")


def quota_of_cpus(text: str) -> tuple[int, int]:
    """The (period, quota) in microseconds that let a container use `text` processors: `1.5`.

    Raises:
        UsageError: it is no such number.
    """
    try:
        quota = round(float(text) * CPU_PERIOD_US)
    except (ValueError, OverflowError):
        quota = 0
    if quota < _MIN_CPU_QUOTA_US:
        raise UsageError(f"cpus={text}: not a number of processors", hint="such as 2 or 0.5; 0.01 at least")
    return CPU_PERIOD_US, quota


def _said(limits: LinuxResources) -> Iterator[tuple[str, str]]:
    """Each limit with its controller."""
    named = (
        ("memory", "memory", limits.memory_bytes),
        ("memory", "memory-swap", limits.memory_swap_bytes),
        ("cpu", "cpu-shares", limits.cpu_shares),
        ("cpu", "cpu-period", limits.cpu_period_us),
        ("cpu", "cpu-quota", limits.cpu_quota_us),
        ("cpuset", "cpuset-cpus", limits.cpuset_cpus),
        ("cpuset", "cpuset-mems", limits.cpuset_mems),
        ("pids", "pids", limits.pids),
    )
    for controller, name, value in named:
        if value:
            yield controller, f"{name}={value}"


def _is_cpuset(text: str) -> bool:
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isascii() and first.isdigit() and (not dash or (last.isascii() and last.isdigit()))):
            return False
        if not int(first) <= int(last or first) <= _MAX_NUMBER:
            return False
    return True
