"""What a step sees mounted: the system's file systems, the etc files, and the mounts it asked for.

The result is data for the bundle; nothing is mounted here.

In a user namespace (a step of a foreign platform, see `emulate`) the kernel
refuses a new sysfs over the host's network and any new cgroup mount. Then the
host's /sys is bound, with everything masked that is mounted inside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from knarr import virtual
from knarr.paths import clean
from knarr.runtime.process import BindMount, ProcessSpec, TmpfsMount
from knarr.runtime.stubs import Point

OciMount = dict[str, Any]

_QUIET = ("nosuid", "noexec", "nodev")
MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi"),
    *("/sys/firmware", "/sys/devices/virtual/powercap"),
)
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def system_mounts(spec: ProcessSpec, *, bind_sys: bool, cgroups: bool) -> list[OciMount]:
    """/proc, /dev and below, /sys. `bind_sys`: show the host's /sys; `cgroups`: mount the cgroup tree."""
    access = "rw" if spec.security == "insecure" else "ro"
    tty = () if virtual.notes_owners() else ("gid=5",)  # with one id there is no such group
    mounts = [
        _mount("/proc", "proc", "proc", *_QUIET),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *tty),
        _mount("/dev/shm", "tmpfs", "shm", *_QUIET, "mode=1777", f"size={spec.shm_size_bytes}"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *_QUIET),
    ]
    if bind_sys:
        mounts.append(_mount("/sys", "bind", "/sys", "rbind", *_QUIET, access))
    else:
        mounts.append(_mount("/sys", "sysfs", "sysfs", *_QUIET, access))
    if cgroups:
        mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", *_QUIET, access))
    return mounts


def etc_mounts(hosts: Path, resolv: Path) -> list[OciMount]:
    """The two files from outside, read-only."""
    return [
        _mount("/etc/resolv.conf", "bind", os.fspath(resolv), "rbind", *_QUIET, "ro"),
        _mount("/etc/hosts", "bind", os.fspath(hosts), "rbind", *_QUIET, "ro"),
    ]


def asked_for(spec: ProcessSpec, secrets: Iterable[tuple[Path, str]]) -> list[OciMount]:
    """The mounts of the step, shallow ones first; `secrets` are (file, target)."""
    mounts = [
        _bind(m.source, m.target, readonly=m.readonly) if isinstance(m, BindMount) else _tmpfs(m)
        for m in spec.mounts
        if isinstance(m, BindMount | TmpfsMount)
    ]
    mounts += [_bind(file, target, readonly=True) for file, target in secrets]
    mounts.sort(key=lambda mount: mount["destination"].count("/"))
    return mounts


def _bind(source: Path, target: str, *, readonly: bool) -> OciMount:
    """A directory or a file of the host."""
    return _mount(clean(target), "bind", os.fspath(source), "rbind", "ro" if readonly else "rw")


def _tmpfs(mount: TmpfsMount) -> OciMount:
    """An empty memory file system."""
    size = (f"size={mount.size_bytes}",) if mount.size_bytes else ()
    access = ("ro",) if mount.readonly else ()
    return _mount(clean(mount.target), "tmpfs", "tmpfs", *mount.options, f"mode={mount.mode:o}", *size, *access)


def merge(system: Iterable[OciMount], asked: Iterable[OciMount]) -> list[OciMount]:
    """All mounts in the order to make them; one that was asked for takes the place of the system's."""
    places = {mount["destination"]: mount for mount in system}
    places.update((mount["destination"], mount) for mount in asked)
    return list(places.values())


def points(rootfs: str, mounts: Sequence[OciMount]) -> list[Point]:
    """The places in the tree at `rootfs` that must exist for `mounts`.

    A place inside another mount is the runtime's affair: it vanishes with a
    tmpfs, stays in a cache, and in a read-only bind the runtime's error is right.
    """
    found = []
    for index, mount in enumerate(mounts):
        target = mount["destination"]
        if any(target.startswith(above["destination"] + "/") for above in mounts[:index]):
            continue
        is_directory = mount["type"] != "bind" or os.path.isdir(mount["source"])
        found.append(Point(rootfs, target, is_directory, _mode(mount)))
    return found


def _mode(mount: OciMount) -> int:
    """What a place for `mount` gets: runc gives a tmpfs the mode of what it covers, whatever its options say."""
    modes = [option[5:] for option in mount["options"] if option.startswith("mode=")]
    return int(modes[0], 8) if modes else 0o755


def mounted_below_sys(but: str = "") -> list[str]:
    """What is mounted inside this machine's /sys, outermost only; `but` and what is below it left out."""
    found: list[str] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        places = sorted({line.split(" ", 5)[4] for line in table})
    for place in places:
        if but and (place + "/").startswith(but + "/"):
            continue
        if place.startswith("/sys/") and not (found and place.startswith(found[-1] + "/")):
            found.append(place)
    return found


def _mount(destination: str, kind: str, source: str, *options: str) -> OciMount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
