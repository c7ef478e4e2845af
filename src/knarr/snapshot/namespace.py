"""Mounts of this process's own, which the kernel takes off when it ends, however it ends."""

from __future__ import annotations

from collections.abc import Mapping

from knarr import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.privilege.profile import Profile


def private_mounts() -> bool:
    """Let all later mounts of this process be seen by it and its children alone; gives whether that is so.

    To be called before threads are started: a namespace belongs to a thread and
    what it starts. Where it is not allowed, mounts are the machine's, and what a
    kill leaves of them is taken off by `sweep`.
    """
    if linux.mounts_isolated():
        return True
    try:
        linux.isolate_mounts()
    except OSError:
        return False
    return True


def take_rights(environ: Mapping[str, str]) -> Profile | None:
    """Take the best privilege profile that is allowed here; None is root on a machine, the usual one.

    To be called before threads are started, and after what depends on the user's id was
    read: afterwards it may be 0, in a user namespace.

    Raises:
        UsageError: KNARR_PROFILE is not a profile.
        Unsupported: the one it asks for does not hold here.
    """
    if not environ.get("KNARR_PROFILE") and private_mounts():
        return None
    from knarr.privilege.profile import take

    return take(environ)
