"""The control group of a running step: what is in it, and how it is emptied.

The runtime makes and removes the group; this module only looks, kills and
cleans up what a killed runtime left. Three layouts exist: unified (v2), legacy
(v1, one tree per controller), and hybrid (v1 with an empty v2 tree beside it).
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import lru_cache

from knarr import linux

ROOT = "/sys/fs/cgroup"
HYBRID = ROOT + "/unified"


def is_unified() -> bool:
    """Whether version 2 is all there is."""
    return os.path.exists(ROOT + "/cgroup.controllers")


def is_hybrid() -> bool:
    """Whether version 2 stands beside version 1: the layout that crun before 1.9 refuses."""
    return os.path.exists(HYBRID + "/cgroup.procs")


def is_writable() -> bool:
    """Whether groups can be made: false in most containers that were not made for it."""
    return any(os.access(tree, os.W_OK) for tree in trees())


def pids(group: str) -> set[int]:
    """The processes in `group` (a path below the root) and below it."""
    found: set[int] = set()
    for tree in trees():
        for directory, _, _ in os.walk(tree + group):
            try:
                with open(directory + "/cgroup.procs", encoding="ascii") as table:
                    found.update(map(int, table))
            except OSError:
                continue
    found.discard(0)  # a process outside our PID namespace
    return found


def kill(group: str) -> int:
    """Send SIGKILL to every process in `group`; returns how many there were."""
    try:
        with open(f"{ROOT}{group}/cgroup.kill", "w", encoding="ascii") as switch:  # v2, Linux 5.14
            switch.write("1")
    except OSError:
        pass
    victims = pids(group)
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(victims)


def remove(group: str) -> None:
    """Remove the empty `group` and what lies below it in every tree; a busy one is left."""
    for tree in (*trees(), HYBRID):
        for directory, _, _ in os.walk(tree + group, topdown=False):
            with suppress(OSError):
                os.rmdir(directory)


def hide_hybrid() -> None:
    """Put an empty file system over the version 2 tree, in the mount namespace of this process.

    Not just unmounted: crun would then make its groups as plain directories in
    the tmpfs below, the machine's own, and forget them there.

    Raises:
        OSError: it cannot be mounted.
    """
    linux.mount("tmpfs", HYBRID, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "mode=755")


def forget_hidden(group: str) -> None:
    """Remove what crun took for the version 2 group of an ended container. Nothing there is fine."""
    with suppress(OSError):
        os.unlink(f"{HYBRID}{group}/cgroup.procs")
    with suppress(OSError):
        os.rmdir(HYBRID + group)


def hasten_entry() -> None:
    """Let the kernel begin now with the wait that the next process to enter a group would cost. Blocks for that long.

    Before a process enters a group, the kernel waits until nobody reads the table of
    groups any more: 6 to 16 ms, but nothing if somebody did the same 5 to 20 ms
    before (kernel/cgroup, `cgroup_threadgroup_rwsem`; measured on 6.18). Entering the
    group one is in changes nothing else.
    """
    mine = f"{os.getpid()}\n"
    for tree in trees():
        path = f"{tree}{own_group(os.path.basename(tree))}/cgroup.procs"
        try:
            with open(path, "r+", encoding="ascii") as table:
                if mine not in table:  # what is mounted there is not what /proc speaks of: this would move us
                    continue
                table.write("0")
        except OSError:
            continue  # not ours to write: then no runtime makes groups here either
        return  # one lock stands before all of them


def own_group(controller: str) -> str:
    """The group of this process in the hierarchy mounted by that name (any name: version 2)."""
    unified = is_unified()
    with open("/proc/self/cgroup", encoding="ascii") as table:
        for line in table:
            _, names, path = line.rstrip("\n").split(":", 2)
            if unified or controller in names.removeprefix("name=").split(","):
                return path
    return ""


def killed_for_memory() -> int:
    """How often the kernel killed for lack of memory since it started, in any group."""
    try:
        with open("/proc/vmstat", encoding="ascii") as table:
            return next((int(line.split()[1]) for line in table if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


@lru_cache(maxsize=1)
def trees() -> tuple[str, ...]:
    """Where groups lie: the one v2 tree, or each v1 hierarchy."""
    if is_unified():
        return (ROOT,)
    try:
        names = sorted(os.listdir(ROOT))
    except OSError:
        return ()
    return tuple(f"{ROOT}/{n}" for n in names if n != "unified" and os.path.isfile(f"{ROOT}/{n}/cgroup.procs"))
