"""Ends what is left in a user namespace when the process that made it has ended, however it ended.

A process that took another user's id in the namespace can be killed neither by the
user outside nor from another namespace, only by who owns the namespace: a process
of the user's in the namespace above. That is the child which has the maps written
(`namespace`): it stays until its parent ends, then kills who is in the namespace
and in those below it. A build that was killed so leaves no process, and with the
last one the mounts go, too.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time

_NS_GET_PARENT = 0xB702  # ioctl_ns(2)
_DEPTH = 8  # namespaces in one another that are looked through: a foreign platform's is one below
_PATIENCE_S = 10.0


def until_end(descriptor: int, pid: int) -> None:
    """Wait until the pipe's other end is closed, then end who is in the namespace that `pid` had; returns after."""
    space = os.stat(f"/proc/{pid}/ns/user").st_ino
    os.setsid()  # a Ctrl-C is for the build, which then ends in order
    null = os.open("/dev/null", os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)  # who reads what the build writes waits for all that could write
    while os.read(descriptor, 64):
        pass
    deadline = time.monotonic() + _PATIENCE_S
    while end_members(space) and time.monotonic() < deadline:
        time.sleep(0.005)


def end_members(space: int) -> int:
    """Kill the processes in the user namespace of that inode number, or below it; returns how many there were."""
    found = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_in(name, space):
            found += 1
            try:
                os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue
    return found


def _is_in(pid: str, space: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            if status.read().rpartition(b") ")[2][:1] in (b"Z", b"X"):
                return False  # dead: it is in no way of anybody
        descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    for _ in range(_DEPTH):
        try:
            if os.fstat(descriptor).st_ino == space:
                return True
            above = fcntl.ioctl(descriptor, _NS_GET_PARENT)
        except OSError:  # the machine's own has none above it
            return False
        finally:
            os.close(descriptor)
        descriptor = above
    os.close(descriptor)
    return False
