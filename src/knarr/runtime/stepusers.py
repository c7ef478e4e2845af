"""Who the processes of a step believe to be, where all of them are the one user there is.

A process that becomes another user is told that it is, and so is what it starts. Nothing else changes: the
kernel knows nothing of it, and so lets the process do what it could do before.
"""

from __future__ import annotations

from knarr.runtime.stepprocess import parent_of, process_of, write_number
from knarr.runtime.syscalls import USERS_CHANGED

_NO_CHANGE = 0xFFFFFFFF
_DEPTH = 64  # of processes that started one another


class Users:
    """The users of one step's processes; `uid` and `gid` are the step's."""

    def __init__(self, uid: int, gid: int) -> None:
        self._user = (uid, gid)
        self._ids: dict[int, tuple[int, int]] = {}

    def answer(self, name: str, pid: int, args: tuple[int, ...]) -> int:
        """The value of a call that asks who one is, or becomes another."""
        process = process_of(pid)
        which = 0 if "uid" in name else 1
        if name == "setgroups":
            return 0
        if name in USERS_CHANGED:
            self._change(name, process, which, args)
            return 0
        id = self._of(process)[which]
        if name.startswith("getres"):
            write_number(pid, id, *args[:3])
            return 0
        return id

    def _change(self, name: str, process: int, which: int, args: tuple[int, ...]) -> None:
        if name.startswith("setfs"):
            return
        if name in ("setuid", "setgid"):
            wanted: int | None = args[0] & _NO_CHANGE
        else:
            wanted = next((id & _NO_CHANGE for id in args[:2][::-1] if id & _NO_CHANGE != _NO_CHANGE), None)
        # A runtime makes itself root, which is the only user it knows of, before it starts the program. Of a
        # step's own processes none could, unless it was root before.
        if wanted == 0 and process not in self._ids and self._user[which]:
            return
        if wanted is not None:
            ids = list(self._of(process))
            ids[which] = wanted
            self._ids[process] = (ids[0], ids[1])

    def _of(self, process: int) -> tuple[int, int]:
        """The ids a process believes to have: its own, or those of who started it."""
        here: int | None = process
        for _ in range(_DEPTH):
            if here is None or here <= 1:
                break
            if here in self._ids:
                return self._ids[here]
            here = parent_of(here)
        return self._user
