"""Entering a user namespace, in which this process is root over the ids it was given.

A process cannot give itself more than its own id: newuidmap, which is setuid, or
whoever has the rights in the namespace outside, writes the map. So a child is
forked first that stays outside; it is told when the namespace is there, has the
maps written, and watches over it (`watch`). This process stays what it is, with all it has loaded:
nothing is executed anew.

Spec: user_namespaces(7), "User and group ID mappings".
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from knarr import linux
from knarr.errors import KnarrError
from knarr.privilege import watch
from knarr.record import record

Map = Sequence[tuple[int, int, int]]  # (first id inside, first id outside, count)


@record
class Maps:
    """The ids of a namespace, and the programs that may write them; without programs the kernel is asked directly."""

    uids: Map
    gids: Map
    newuidmap: str = ""
    newgidmap: str = ""
    deny_setgroups: bool = False  # what the kernel wants of a user without rights outside


def enter(maps: Maps, *, watched: bool = True) -> None:
    """Be root in a new user namespace and a new mount namespace. Only for a process with one thread.

    When this process ends, what is left in the namespace is ended, too, if it is `watched`.

    Raises:
        KnarrError: it is not allowed. This process may then be in a namespace without ids and can only end:
            try it with `why_not` first.
    """
    child = _Outside.start(maps, watched=watched)
    try:
        linux.enter_user_namespace()
    except OSError as error:
        child.dismiss()
        raise KnarrError(f"a user namespace cannot be made: {error.strerror}") from error
    reason = child.write_maps()
    if reason:
        raise KnarrError(f"the ids of a user namespace cannot be set: {reason}")
    try:
        linux.isolate_mounts()
    except OSError as error:
        raise KnarrError(f"nothing can be mounted in a user namespace: {error.strerror}") from error


def why_not(maps: Maps) -> str:
    """Why `enter` would fail; empty when it would not. Tried in a child, so nothing is changed here."""
    back, said = os.pipe()
    child = os.fork()
    if not child:
        reason = "the trial ended early"
        try:
            os.close(back)
            enter(maps, watched=False)
            reason = ""
        except KnarrError as error:
            reason = error.message
        finally:
            os.write(said, reason.encode() or b"\0")
            os._exit(0)
    os.close(said)
    told = _read_all(back)
    os.waitpid(child, 0)
    return "" if told == b"\0" else told.decode(errors="replace") or "the trial was killed"


class _Outside:
    """The child that stays in the namespace of before and has the maps written."""

    def __init__(self, pid: int, go: int, back: int) -> None:
        self._pid, self._go, self._back = pid, go, back

    @classmethod
    def start(cls, maps: Maps, *, watched: bool) -> _Outside:
        waits, go = os.pipe()
        back, says = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            try:
                os.close(go)
                os.close(back)
                if os.read(waits, 1):
                    reason = _write_maps(parent, maps)
                    os.write(says, reason.encode())
                    os.close(says)
                    if watched and not reason:
                        watch.until_end(waits, parent)
            finally:
                os._exit(0)
        os.close(waits)
        os.close(says)
        return cls(pid, go, back)

    def write_maps(self) -> str:
        """Have it done; the reason when it failed."""
        os.write(self._go, b"x")  # and it stays open: when this process ends, the child will know
        return _read_all(self._back).decode(errors="replace")

    def dismiss(self) -> None:
        os.close(self._go)
        os.close(self._back)
        os.waitpid(self._pid, 0)


def _write_maps(pid: int, maps: Maps) -> str:
    try:
        if maps.deny_setgroups:
            _write(f"/proc/{pid}/setgroups", "deny")
        for program, name, table in (
            (maps.newgidmap, "gid_map", maps.gids),
            (maps.newuidmap, "uid_map", maps.uids),
        ):
            if program:
                reason = _call([program, str(pid), *(str(number) for line in table for number in line)])
                if reason:
                    return reason
            else:
                _write(f"/proc/{pid}/{name}", "".join("{} {} {}\n".format(*line) for line in table))
    except OSError as error:
        return f"{error.filename or 'writing the map'}: {error.strerror}"
    return ""


def _call(argv: list[str]) -> str:
    back, says = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, says, 1), (os.POSIX_SPAWN_DUP2, says, 2)]
    pid = os.posix_spawn(argv[0], argv, {}, file_actions=actions)
    os.close(says)
    words = _read_all(back).decode(errors="replace").strip()
    _, status = os.waitpid(pid, 0)
    return (words or f"{argv[0]} failed") if status else ""


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())  # the kernel takes a map only in one write
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    data = b""
    try:
        while part := os.read(descriptor, 4096):
            data += part
    finally:
        os.close(descriptor)
    return data
