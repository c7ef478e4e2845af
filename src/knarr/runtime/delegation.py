"""Where control groups with limits can be made: in the machine's tree, or in the group that was handed down to us.

Version 2 has a group's controllers only where the group above passes them on, and a group
that passes any on holds no processes itself. A group that was handed to us (a scope of systemd
with `Delegate=yes`, a container with a tree of its own) holds us: then its processes move
into a group below it, where they are as they were.

Spec: cgroup-v2.rst of the kernel, "No Internal Process Constraint" and "Delegation Containment".
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from knarr.errors import Unsupported
from knarr.llb.ops import LinuxResources
from knarr.runtime import cgroups, limits

_SELF = "knarr-self"  # the group for what was in the group that was handed down
_ROUNDS = 20  # of moving processes, some of which may start others meanwhile
_WAY_OUT = "run knarr as root, or in a group of its own: systemd-run --user --scope -p Delegate=yes knarr …"


def place(wanted: LinuxResources) -> str:
    """The group (a path below the root, empty: the root) below which containers can have the limits.

    Raises:
        Unsupported: there is none; says which limit it is about, and why.
    """
    needs = limits.controllers(wanted)
    if cgroups.is_unified():
        return _unified(wanted, needs)
    return _legacy(wanted, needs)


def handed_down() -> tuple[str, tuple[str, ...]] | None:
    """The group of version 2 that this user may use, and its controllers; None: none. Changes nothing."""
    if not cgroups.is_unified():
        return None
    group = cgroups.own_group("").removesuffix(f"/{_SELF}").rstrip("/")
    path = cgroups.ROOT + group
    if not os.access(f"{path}/cgroup.subtree_control", os.W_OK):
        return None
    return group, tuple(_words(f"{path}/cgroup.controllers"))


def _unified(wanted: LinuxResources, needs: set[str]) -> str:
    reason = ""
    own = cgroups.own_group("").removesuffix(f"/{_SELF}").rstrip("/")
    for group in dict.fromkeys(("", own)):
        path = cgroups.ROOT + group
        if not os.access(f"{path}/cgroup.subtree_control", os.W_OK):
            continue
        missing = needs - set(_words(f"{path}/cgroup.controllers"))
        if missing:
            reason = _without(wanted, missing, group)
            continue
        reason = _enabled(path, needs)
        if not reason:
            return group
    raise refusal(wanted, reason or "no control group was handed down to this user")


def _enabled(path: str, needs: Iterable[str]) -> str:
    """Have the group at `path` pass on controllers; the reason when it cannot."""
    try:
        for _ in range(_ROUNDS):
            try:
                _pass_on(path, needs)
            except OSError as error:
                if error.errno != 16:  # EBUSY: there are processes in it
                    raise
                _move_down(path)
                continue
            return ""
    except OSError as error:
        return f"{path}/cgroup.subtree_control: {error.strerror}"
    return f"processes keep starting in {path}"


def _pass_on(path: str, needs: Iterable[str]) -> None:
    missing = set(needs) - set(_words(f"{path}/cgroup.subtree_control"))
    if missing:
        _write(f"{path}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))


def _move_down(path: str) -> None:
    below = f"{path}/{_SELF}"
    os.makedirs(below, exist_ok=True)
    for pid in _words(f"{path}/cgroup.procs"):
        try:
            _write(f"{below}/cgroup.procs", pid)
        except ProcessLookupError:  # it has ended
            continue


def _legacy(wanted: LinuxResources, needs: set[str]) -> str:
    """The group of version 1, which is the same in every tree: there is one path for all of them."""
    trees = {name: f"{cgroups.ROOT}/{name}" for name in needs}
    missing = {name for name, tree in trees.items() if not os.path.isfile(f"{tree}/cgroup.procs")}
    if missing:
        raise refusal(wanted, _without(wanted, missing, ""))
    if all(os.access(tree, os.W_OK) for tree in trees.values()):
        return ""
    groups = {cgroups.own_group(name).rstrip("/") for name in trees}
    group = groups.pop()
    if not groups and all(os.access(tree + group, os.W_OK) for tree in cgroups.trees()):
        return group
    raise refusal(wanted, "no control group was handed down to this user")


def _without(wanted: LinuxResources, missing: set[str], group: str) -> str:
    names = sorted(missing)
    what = ", ".join(limits.in_words(wanted, name) for name in names)
    return f"{what}: the group {group or '/'} has no controller {' and no controller '.join(names)}"


def refusal(wanted: LinuxResources, reason: str, way_out: str = _WAY_OUT) -> Unsupported:
    """The error for limits that cannot be kept here."""
    return Unsupported(f"limits of steps ({limits.in_words(wanted)}) cannot be had here: {reason}", hint=way_out)


def _words(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
