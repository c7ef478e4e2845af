"""Steps of an OCI runtime that ask knarr for owners, devices and users: where there is one id for all of them.

The runtime loads a filter that sends such calls to a descriptor, and gives that to whoever listens at a
socket: `Listener`, which has a `Supervisor` for each process that was started in the container.

Spec: runtime-spec v1.1, config-linux.md, "Seccomp", listenerPath, and "The Container Process State".
"""

from __future__ import annotations

import os
import socket
from types import TracebackType
from typing import Any

from knarr.runtime import marks
from knarr.runtime.supervise import Supervisor
from knarr.runtime.syscalls import MODES, OWNERS, STATS, USERS, numbers
from knarr.runtime.users import User
from knarr.scope import Scope

_NAME = "calls"
_ASKED = (*OWNERS, *STATS, *MODES, *USERS)
_STATE_BYTES = 1 << 20  # of the container's state, which comes with the descriptor and says nothing that we need


def is_possible() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return bool(numbers()[1])


class Listener:
    """Answers a container's calls as long as its block lasts; its step runs as `user`, and as root for the kernel."""

    def __init__(self, place: str, user: User, root: str, scope: Scope) -> None:
        """`place` is a directory of the container's own, `root` its tree."""
        self._user = user
        self._root = root
        self._scope = scope
        self._refused: list[str] = []
        self._place = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"/proc/self/fd/{self._place}/{_NAME}")  # a socket's own path has room for 107 bytes
        self._socket.listen()
        self._unnoted: set[str] | None = None

    def add(self, configuration: dict[str, Any]) -> None:
        """Have the runtime send the calls here, and run everything as the one user there is."""
        linux, process = configuration["linux"], configuration["process"]
        filter = linux.get("seccomp") or {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "syscalls": []}
        known = [name for name in _ASKED if name in numbers()[1]]
        rules = [{**rule, "names": [n for n in rule["names"] if n not in known]} for rule in filter["syscalls"]]
        rules = [rule for rule in rules if rule["names"]]
        linux["seccomp"] = {
            **filter,
            "syscalls": [*rules, {"names": known, "action": "SCMP_ACT_NOTIFY"}],
            "listenerPath": f"/proc/{os.getpid()}/fd/{self._place}/{_NAME}",
        }
        process["user"] |= {"uid": 0, "gid": 0, "additionalGids": []}

    def __enter__(self) -> Listener:
        if self._user.uid or self._user.gid:
            self._unnoted = marks.before(self._root)
        self._scope.attempt(self._stand)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for the runtime
        self._socket.close()
        os.close(self._place)
        if kind is None:
            self._settle()

    def _settle(self) -> None:
        """Give the step's user what it made; refuse what could not be kept.

        Raises:
            Unsupported: something that the step did cannot be kept.
        """
        if self._unnoted is not None:
            marks.after(self._root, self._user, self._unnoted)
        if self._refused:
            raise marks.cannot_keep(self._refused[0])

    def _stand(self) -> None:
        """Take in the first process of the container, and those that are started in it later."""
        while True:
            try:
                runtime, _ = self._socket.accept()
            except OSError:
                return
            with runtime:
                _, descriptors, _, _ = socket.recv_fds(runtime, _STATE_BYTES, 4)
            for descriptor in descriptors:
                self._scope.attempt(self._serve, descriptor)

    def _serve(self, descriptor: int) -> None:
        try:
            supervisor = Supervisor(descriptor, uid=self._user.uid, gid=self._user.gid)
            supervisor.serve(self._refused.append)
        finally:
            os.close(descriptor)
