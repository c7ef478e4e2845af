"""What the kernel allows this user: namespaces, ids, control groups, filters."""

from __future__ import annotations

import os
from collections.abc import Iterator

from knarr import config
from knarr.cli.machine.finding import Finding
from knarr.errors import KnarrError
from knarr.privilege import namespace, profile, subids

_APPARMOR_USERNS = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


def look(taken: profile.Profile) -> Iterator[Finding]:
    """Look at what this process may do; `taken` is what it does."""
    yield _profile(taken)
    yield _user_namespaces(taken)
    yield _ids()
    yield _cgroups()
    yield _seccomp()
    yield _apparmor()


def _profile(taken: profile.Profile) -> Finding:
    uid = os.geteuid() if config.outer_uid is None else config.outer_uid
    who = "root" if not uid else f"uid {uid}"
    cost = {
        "root": "",
        "user": "",
        "single": "no other owners but by notes",
        "container": "no /proc in steps, each of which copies its tree",
        "restricted": "steps are slow, and kept from nothing in this container",
    }[taken.name]
    verdict = "ok" if taken.name in ("root", "user") else "limited"
    reasons = "; ".join(taken.reasons)
    return Finding(verdict, "profile", f"{taken.name} ({who})", reasons, used=taken.in_words, cost=cost)


def _user_namespaces(taken: profile.Profile) -> Finding:
    if taken.name in ("user", "single"):
        return Finding("ok", "user namespace", "allowed", used="steps and files are in one")
    own = (0, os.geteuid(), 1) if os.geteuid() else (0, 0, 1)
    reason = namespace.why_not(namespace.Maps((own,), ((0, os.getegid(), 1),), deny_setgroups=bool(os.geteuid())))
    if not reason:
        return Finding("ok", "user namespace", "allowed", used="for foreign platforms")
    hint = "allow them: sysctl user.max_user_namespaces (must not be 0), and the container's seccomp profile"
    if _read(_APPARMOR_USERNS) == "1":
        hint = "allow them: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        hint = "allow them: sysctl kernel.unprivileged_userns_clone=1"
    return Finding("limited", "user namespace", f"not allowed: {reason}", hint)


def _ids() -> Finding:
    uid = os.geteuid() if config.outer_uid is None else config.outer_uid
    name = subids.login_name(uid)
    counts = [
        sum(found.count for found in subids.subordinate(f"/etc/{file}", uid, name)) for file in ("subuid", "subgid")
    ]
    tools = bool(subids.program("newuidmap") and subids.program("newgidmap"))
    text = f"{counts[0]} user and {counts[1]} group ids, newuidmap {'is' if tools else 'is not'} installed"
    if not uid:
        return Finding("ok", "subordinate ids", text, used="not needed by root")
    if all(counts) and tools:
        return Finding("ok", "subordinate ids", text, used="as the ids of a user namespace")
    who = name or str(uid)
    hint = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}"
    return Finding("limited", "subordinate ids", text, hint if tools else "install uidmap (Debian), shadow-utils")


def _cgroups() -> Finding:
    from knarr.runtime import cgroups

    version = "version 2" if cgroups.is_unified() else "hybrid" if cgroups.is_hybrid() else "version 1"
    if not os.path.isdir(cgroups.ROOT):
        return Finding("limited", "control groups", "none mounted", cost="no limits for steps")
    if cgroups.is_writable():
        return Finding("ok", "control groups", f"{version}, writable", used="a group for each step")
    from knarr.runtime import delegation

    handed = delegation.handed_down()
    if handed is not None:
        found = f"{version}, {handed[0]} is ours: {' '.join(handed[1])}"
        return Finding("ok", "control groups", found, used="a group for each step with limits")
    hint = "delegate a group: systemd-run --user --scope -p Delegate=yes, or a writable /sys/fs/cgroup"
    return Finding(
        "limited", "control groups", f"{version}, not writable", hint, used="no groups", cost="no limits for steps"
    )


def _seccomp() -> Finding:
    mode = next((line.split()[1] for line in _read("/proc/self/status").splitlines() if line[:8] == "Seccomp:"), "")
    actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    here = {"0": "this process is not filtered", "2": "this process is filtered"}.get(mode, "")
    if not actions:
        return Finding("limited", "seccomp", "not in this kernel", cost="steps may make any system call")
    text = f"{here}, notifications {'are' if 'user_notif' in actions else 'are not'} there"
    return Finding("ok", "seccomp", text, used="the usual filter for steps")


def _apparmor() -> Finding:
    if _read("/sys/module/apparmor/parameters/enabled") != "Y":
        return Finding("ok", "AppArmor", "not enabled")
    return Finding("ok", "AppArmor", f"enabled; here: {_read('/proc/self/attr/current') or 'unconfined'}", used="no")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def in_a_namespace(act: object) -> str:
    """What `act` (a function that gives a text) gives in a new user namespace of root's own; tried in a child."""
    back, said = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(back)
            maps, reason = profile.user_maps()
            if maps is not None:
                namespace.enter(maps, watched=False)
                reason = act()  # type: ignore[operator]  # a function
            os.write(said, (reason or "\0").encode())
        except (KnarrError, OSError) as error:
            os.write(said, str(error).encode())
        finally:
            os._exit(0)
    os.close(said)
    with open(back, "rb") as stream:
        told = stream.read().decode(errors="replace")
    os.waitpid(child, 0)
    return "" if told == "\0" else told or "the trial ended early"
