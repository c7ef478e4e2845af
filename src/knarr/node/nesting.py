"""Control groups for what runs inside a container: version 2, version 1, and both side by side.

Version 2 lets a group have either processes or groups with limits, so everybody
moves out of the topmost group before anything is started, and its controllers are
handed down. Version 1 has no such rule; its hierarchies need only be there. A
container that sees the host's path of its own group gets a namespace in which that
path is the top: otherwise runc would look for it below what is mounted here.

Spec: Linux, Documentation/admin-guide/cgroup-v2.rst ("No Internal Process
Constraint") and cgroup-v1/cgroups.rst; cgroup_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from knarr import linux
from knarr.errors import KnarrError
from knarr.record import record

ROOT = Path("/sys/fs/cgroup")
INIT = "init"  # where the processes of a version 2 container go, as k3d's and Docker's own scripts call it
_CLONE_NEWCGROUP = 0x02000000
_FIRST_CGROUP_NAMESPACE = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO, Linux' include/linux/proc_ns.h
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


@record
class Hierarchy:
    """A line of /proc/self/cgroup: its controllers, and this process's group. Version 2 has no name."""

    names: str
    group: str

    @property
    def directory(self) -> str:
        """Where it is mounted below /sys/fs/cgroup, by custom."""
        return self.names.removeprefix("name=")

    @property
    def option(self) -> str:
        """How it is called when it is mounted."""
        return f"none,{self.names}" if self.names.startswith("name=") else self.names


def hierarchies(table: str) -> tuple[Hierarchy, ...]:
    """What the text of /proc/PID/cgroup says."""
    return tuple(Hierarchy(*line.split(":", 2)[1:]) for line in table.splitlines() if line.count(":") >= 2)


def nest(say: Callable[[str], None]) -> str:
    """Make the control groups of this container its own to divide; gives what they are, for people.

    To be called before anything else is started. Where they cannot be written, they are left as they are.

    Raises:
        KnarrError: processes cannot be moved out of the way.
    """
    found = hierarchies(Path("/proc/self/cgroup").read_text())
    if not found:
        return "none: no limits"
    unified = all(not each.names for each in found)
    if _is_the_machines() and all(each.group == "/" for each in found):
        return "the machine's own, left as they are"
    if any(each.group != "/" for each in found):
        try:
            linux.unshare(_CLONE_NEWCGROUP)
        except OSError as error:
            say(f"control groups: the host's, and no namespace for them is allowed: {error.strerror}")
        else:
            _mount(found, unified, anew=True)
    elif not (ROOT / "cgroup.procs").exists():
        _mount(found, unified, anew=False)
    if (ROOT / "cgroup.controllers").exists():
        return _hand_down(ROOT)
    kind = "hybrid" if (ROOT / "unified/cgroup.procs").exists() else "version 1"
    names = sorted(each.directory for each in found if (ROOT / each.directory / "cgroup.procs").exists() and each.names)
    writable = any(os.access(ROOT / name, os.W_OK) for name in names)
    return f"{kind}: {', '.join(names)}" if names and writable else f"{kind}, not writable: no limits"


def _is_the_machines() -> bool:
    """Whether this process sees the machine's groups from their top: it is in no container that has its own."""
    return os.stat("/proc/self/ns/cgroup").st_ino == _FIRST_CGROUP_NAMESPACE


def _mount(found: tuple[Hierarchy, ...], unified: bool, *, anew: bool) -> None:
    """Mount the hierarchies where they are looked for: what is missing, or all of it `anew`."""
    with suppress(OSError):
        if unified:
            linux.mount("cgroup2", str(ROOT), "cgroup2", _QUIET)
            return
        if anew or not os.path.ismount(ROOT):
            linux.mount("tmpfs", str(ROOT), "tmpfs", _QUIET, "mode=755")
    for each in found:
        place = ROOT / (each.directory or "unified")
        with suppress(OSError):  # one that the kernel cannot give is one that nobody here can use
            place.mkdir(exist_ok=True)
            if not (place / "cgroup.procs").exists():
                kind = "cgroup" if each.names else "cgroup2"
                linux.mount(kind, str(place), kind, _QUIET, each.option if each.names else "")
                if not each.names and (place / "cgroup.controllers").read_text().split():
                    linux.umount(str(place))  # crun works beside version 1 only where version 2 has no controllers


def _hand_down(root: Path) -> str:
    """Version 2: everybody into a group of their own, and the controllers to the groups beside it."""
    if not os.access(root / "cgroup.procs", os.W_OK) or os.statvfs(root).f_flag & os.ST_RDONLY:
        with suppress(OSError):
            linux.mount("none", str(root), "", linux.MS_REMOUNT | linux.MS_BIND | _QUIET)
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        return "version 2, not writable: no limits"
    try:
        (root / INIT).mkdir(exist_ok=True)
        for pid in _pids(root):
            with suppress(ProcessLookupError):
                (root / INIT / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise KnarrError(
            f"control groups: {error.filename or root}: {error.strerror}",
            hint="run it privileged, with a cgroup namespace of its own: the control groups must be its to write",
        ) from error
    handed = []
    for name in (root / "cgroup.controllers").read_text().split():
        with suppress(OSError):  # one by one: a controller that real-time processes hold back holds back no other
            (root / "cgroup.subtree_control").write_text(f"+{name}")
            handed.append(name)
    return f"version 2: {', '.join(handed) or 'no controllers'}"


def _pids(root: Path) -> Iterator[int]:
    """The processes in the topmost group, until there are none: they may start others meanwhile."""
    for _ in range(10):
        pids = [int(word) for word in (root / "cgroup.procs").read_text().split() if word != "0"]
        if not pids:
            return
        yield from pids
