"""Mounts of this process's own, which the kernel takes off when it ends, however it ends."""

from __future__ import annotations

from knarr import linux


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
