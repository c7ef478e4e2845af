"""The privilege profiles: which one holds here, found out by trying, and taken.

    root        root on a machine, or in a container that may mount
    user        a user with ids of its own (/etc/subuid): root in a user namespace
    single      a user without: root in a user namespace that knows one id
    container   root in a container that may not mount: chroot
    restricted  nobody, without any right: path translation

The first that holds is the best that is allowed; `KNARR_PROFILE` asks for a
lesser one. What is root on a machine is found without loading this module
(`snapshot.namespace`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from knarr import config, linux, virtual
from knarr.errors import Unsupported, UsageError
from knarr.privilege import namespace, subids
from knarr.record import record

NAMES = ("root", "user", "single", "container", "restricted")


@record
class Profile:
    """What holds here, and why nothing better does."""

    name: str
    reasons: tuple[str, ...] = ()  # of the better profiles that do not hold, the best first
    ids: int = 0  # how many user ids can be told apart; 0: all

    @property
    def in_words(self) -> str:
        """What is used, for one line that people read."""
        return {
            "root": "root on this machine",
            "user": f"a user namespace with {self.ids} ids",
            "single": "a user namespace with one id",
            "container": "root in a container that may not mount: steps run by chroot",
            "restricted": "no rights at all: steps run by path translation (proot)",
        }[self.name]


ROOT = Profile("root")
_taken: Profile | None = None


def taken() -> Profile | None:
    """The profile that this process has taken; None: none yet, or root without being asked."""
    return _taken


def take(environ: Mapping[str, str]) -> Profile:
    """Find the profile that holds and take it: the process may be in other namespaces afterwards. Once per process.

    To be called before threads are started, and after what depends on the user's id was
    read: afterwards it is 0.

    Raises:
        UsageError: KNARR_PROFILE is not one.
        Unsupported: the one it asks for does not hold here.
    """
    global _taken
    if _taken is None:
        _taken = _take(environ.get("KNARR_PROFILE", ""))
    return _taken


def _take(wanted: str) -> Profile:
    if wanted and wanted not in NAMES:
        raise UsageError(f"KNARR_PROFILE={wanted}: not known", hint=f"use one of: {', '.join(NAMES)}")
    reasons: list[str] = []
    for name in (wanted,) if wanted else NAMES:
        reason, ids, act = _TRIALS[name]()
        if not reason:
            uid = os.geteuid()
            act()
            config.outer_uid = uid
            if name in ("user", "single") or (name == "restricted" and uid):
                virtual.begin(owners=name != "user", modes=name == "restricted")
            if name in ("container", "restricted"):
                linux.forgo_mounts()
            return Profile(name, tuple(reasons), ids)
        reasons.append(f"{name}: {reason}")
    if wanted:
        raise Unsupported(f"profile {reasons[0]}", hint="leave KNARR_PROFILE out: what holds here is found out")
    raise Unsupported(
        f"no privilege profile holds here: {'; '.join(reasons)}",
        hint="allow user namespaces (knarr doctor tells how), or accept the risk: KNARR_PROFILE=restricted",
    )


_Trial = tuple[str, int, Callable[[], object]]


def _nothing() -> None:
    pass


def _root() -> _Trial:
    if os.geteuid():
        return f"this is uid {os.geteuid()}", 0, _nothing
    try:
        linux.isolate_mounts()
    except OSError as error:
        return f"this container may not mount: {error.strerror}", 0, _nothing
    return "", 0, _nothing


def _user() -> _Trial:
    maps, reason = user_maps()
    if maps is None:
        return reason, 0, _nothing
    return namespace.why_not(maps), sum(line[2] for line in maps.uids), lambda: namespace.enter(maps)


def _single() -> _Trial:
    maps = namespace.Maps(((0, os.geteuid(), 1),), ((0, os.getegid(), 1),), deny_setgroups=True)
    return namespace.why_not(maps), 1, lambda: namespace.enter(maps)


def _container() -> _Trial:
    return (f"this is uid {os.geteuid()}" if os.geteuid() else ""), 0, _nothing


def _restricted() -> _Trial:
    if os.environ.get("KNARR_PROFILE") == "restricted" or in_container():
        return "", 1, _nothing
    return "this is no container, so nothing would keep steps from this user's files", 1, _nothing


def in_container() -> bool:
    """Whether this is a container: something that can be thrown away, with nothing else in it."""
    marks = ("/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io", "/dev/.lxc")
    if any(map(os.path.exists, marks)) or "container" in os.environ or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
            root = next((line for line in table if line.split(" ", 5)[4] == "/"), "")
        with open("/proc/1/cgroup", encoding="utf-8", errors="replace") as table:
            groups = table.read()
    except OSError:
        return False
    return " - overlay " in root or any(word in groups for word in ("docker", "kubepods", "containerd", "libpod"))


_TRIALS: dict[str, Callable[[], _Trial]] = {
    "root": _root,
    "user": _user,
    "single": _single,
    "container": _container,
    "restricted": _restricted,
}


def user_maps() -> tuple[namespace.Maps | None, str]:
    """The ids that this user may have in a namespace of its own, or the reason why there are none."""
    uid, gid = os.geteuid(), os.getegid()
    if not uid:  # root in a container: all that it has itself
        return namespace.Maps(_all("/proc/self/uid_map"), _all("/proc/self/gid_map")), ""
    name = subids.login_name(uid)
    uids, gids = (subids.subordinate(f"/etc/{file}", uid, name) for file in ("subuid", "subgid"))
    who = name or f"uid {uid}"
    if not uids or not gids:
        return None, f"{who} has no ids in /etc/{'subuid' if not uids else 'subgid'}"
    newuidmap, newgidmap = subids.program("newuidmap"), subids.program("newgidmap")
    if not (newuidmap and newgidmap):
        return None, "newuidmap and newgidmap are not installed"
    return namespace.Maps(subids.as_root(uid, uids), subids.as_root(gid, gids), newuidmap, newgidmap), ""


def _all(path: str) -> namespace.Map:
    with open(path, encoding="ascii") as table:
        lines = [tuple(map(int, line.split())) for line in table]
    return tuple((first, first, count) for first, _, count in lines)
