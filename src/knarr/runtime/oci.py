"""The OCI runtime program, crun or runc: which one works here, and its command lines.

crun starts a container in half of runc's time, so it is preferred. Versions
before 1.9 refuse the hybrid cgroup layout; they work when the version 2 tree is
out of their sight, which is arranged when this process has mounts of its own.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from knarr import linux
from knarr.errors import Unsupported
from knarr.paths import clean
from knarr.record import record, replace
from knarr.runtime import cgroups

if TYPE_CHECKING:
    from knarr.runtime.outofmemory import Watch
    from knarr.runtime.process import ProcessSpec

_EXTRA_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on a plain user's PATH
_INSTALL = "install crun or runc (Debian: apt-get install crun)"
_BELOW = "/step"  # the group of a container whose deaths for lack of memory are counted in the one above it


@record
class Group:
    """The control group of one container: `path` has all that is the container's; empty: there is none.

    `told` is what the runtime calls the container's group: `path`, or one below it.
    """

    path: str = ""
    told: str = ""
    is_limited: bool = False
    is_watched: bool = False  # its memory is limited

    def watch(self) -> AbstractContextManager[Watch | None]:
        """Watches for the memory limit, if there is one, while the container runs."""
        if not self.is_watched:
            return nullcontext()
        from knarr.runtime.outofmemory import Watch

        return Watch(self.path)

    @classmethod
    def of_told(cls, told: str) -> Group:
        """The group of a container whose configuration has `told`."""
        return cls(told.removesuffix(_BELOW), told)


@record
class Program:
    """An OCI runtime with the directory it keeps its state in."""

    path: str
    state: Path
    options: tuple[str, ...] = ()
    has_cgroups: bool = True  # false: this process may make none, so steps have no group of their own

    @property
    def name(self) -> str:
        return "crun" if "crun" in os.path.basename(self.path) else "runc"

    def group(self, spec: ProcessSpec, id: str) -> tuple[Program, Group]:
        """The group for a container with that id, and this program, told that there is one.

        Raises:
            Unsupported: the container has limits that cannot be had here.
            UsageError: a limit that no kernel takes.
        """
        base, limits, program = "", spec.limits, self
        if limits is not None:
            from knarr.runtime import delegation
            from knarr.runtime.limits import check

            check(limits)
            base = delegation.place(limits)
            program = self if self.has_cgroups else replace(self, options=(), has_cgroups=True)
        if not program.has_cgroups:
            return program, Group()
        path = f"{base}{clean(spec.cgroup_parent).rstrip('/')}/knarr/{id}"
        is_watched = limits is not None and limits.memory_bytes > 0
        below = _BELOW if is_watched and cgroups.is_unified() else ""
        return program, Group(path, path + below, limits is not None, is_watched)

    def run(self, id: str, bundle: str) -> list[str]:
        """The command that runs the container of `bundle` to its end."""
        # crun takes what stands before the first colon for a kind of log, unless a kind is given.
        where, form = (f"{bundle}/log", "json") if self.name == "runc" else (f"file:{bundle}/log", "text")
        log = ("--log", where, "--log-format", form)
        return [*self._start(), *log, "run", "--bundle", bundle, "--pid-file", f"{bundle}/pid", id]

    def exec(self, id: str, process: str, pid_file: str) -> list[str]:
        """The command that runs a further process, told in the file `process`, in a container to its end."""
        return [*self._start(), "exec", "--process", process, "--pid-file", pid_file, id]

    def delete(self, id: str) -> list[str]:
        """The command that kills and forgets a container."""
        return [*self._start(), "delete", "--force", id]

    def knows(self, id: str) -> bool:
        """Whether the program has state of the container."""
        return (self.state / id).exists()

    def _start(self) -> tuple[str, ...]:
        return (self.path, "--root", os.fspath(self.state), *self.options)


def choose(state: Path, wanted: str = "") -> Program:
    """The runtime to use: `wanted` (crun, runc or a path), or what works here, crun first.

    Raises:
        Unsupported: it is not installed, or cannot work on this machine.
    """
    names = (wanted,) if wanted else ("crun", "runc")
    reasons = []
    for name in names:
        path = find(name)
        if path is None:
            reasons.append(f"{name} is not installed" if "/" not in name else f"{name} is not a program")
            continue
        found = program(path, state)
        reason = obstacle(found)
        if not reason:
            return found
        reasons.append(reason)
    raise Unsupported(f"no OCI runtime to run steps with: {'; '.join(reasons)}", hint=_INSTALL)


def find(name: str) -> str | None:
    """Where the program is installed; a path is taken as it is."""
    if "/" in name:
        return name if os.access(name, os.X_OK) and os.path.isfile(name) else None
    places = [*os.environ.get("PATH", os.defpath).split(":"), *_EXTRA_PATH]
    found = (f"{place}/{name}" for place in places if place)
    return next((path for path in found if os.access(path, os.X_OK) and os.path.isfile(path)), None)


def program(path: str, state: Path) -> Program:
    """The program at `path`, told how to live with this machine's cgroups."""
    name = "crun" if "crun" in os.path.basename(path) else "runc"
    if cgroups.is_writable():
        return Program(path, state / name)
    # runc's word for "go on when a group cannot be made"
    options = ("--cgroup-manager=disabled",) if name == "crun" else ("--rootless=true",)
    return Program(path, state / name, options, has_cgroups=False)


def obstacle(program: Program) -> str:
    """Why the program cannot work here; what can be mended is mended."""
    if program.name != "crun" or not cgroups.is_hybrid():
        return ""
    if not linux.mounts_isolated():
        return "crun does not work with hybrid cgroups unless knarr has mounts of its own"
    try:
        cgroups.hide_hybrid()
    except OSError as error:
        return f"crun does not work with hybrid cgroups, and {cgroups.HYBRID} cannot be hidden: {error.strerror}"
    return ""
