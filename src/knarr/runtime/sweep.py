"""Ends containers that nobody watches any more, and removes what they left: processes, cgroups, state, bundles."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from knarr.owner import Owner
from knarr.runtime import cgroups, oci, workspace

_PATIENCE_S = 10.0  # a killed process may still be in the kernel, writing


def sweep(state: Path) -> int:
    """Clean up after dead owners below the runtime's state directory; returns the number of containers."""
    found = 0
    owners = state / "owners"
    for token in Owner.dead(owners):
        bundles = state / "bundles" / token
        for bundle in _entries(bundles):
            found += 1
            group = _cgroup(bundle)
            for program in _programs(state):
                discard(program, bundle.name, group)
            if (bundle / "aside").exists():
                from knarr.runtime import placing

                placing.recover(bundle)
            workspace.remove(os.fspath(bundle))
        if bundles.exists():
            bundles.rmdir()
        Owner.forget(owners, token)
    return found


def discard(program: oci.Program, id: str, cgroup: str) -> None:
    """Kill what is left of a container and make the runtime forget it. Does not raise."""
    deadline = time.monotonic() + _PATIENCE_S
    while cgroup and cgroups.kill(cgroup) and time.monotonic() < deadline:
        time.sleep(0.005)
    if program.knows(id):
        oci.obstacle(program)  # takes away what would stop it, if it can
        _call(program.delete(id))
    if program.knows(id):
        _forget(program.state / id)  # it is not installed any more, or cannot work: all processes are gone
    if cgroup:
        cgroups.forget_hidden(cgroup)
        cgroups.remove(cgroup)


def _programs(state: Path) -> Iterator[oci.Program]:
    """The runtimes that have state here: the dead process may have used another than ours."""
    for name in ("crun", "runc"):
        if (state / name).exists():
            yield oci.program(oci.find(name) or f"/nonexistent/{name}", state)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def _cgroup(bundle: Path) -> str:
    try:
        configuration = json.loads((bundle / "config.json").read_bytes())
        return oci.Group.of_told(str(configuration["linux"].get("cgroupsPath", ""))).path
    except (OSError, ValueError, KeyError):
        return ""  # killed before it was written: then no container was started either


def _forget(directory: Path) -> None:
    for path in _entries(directory):
        path.unlink(missing_ok=True)
    directory.rmdir()


def _call(argv: list[str]) -> None:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in (0, 1, 2)]
        pid = os.posix_spawn(argv[0], argv, dict(os.environ), file_actions=actions)
    except OSError:
        return
    finally:
        os.close(null)
    os.waitpid(pid, 0)
