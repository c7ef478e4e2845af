"""A socket at which an agent lent by the caller answers, for as long as a step or a git needs it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from knarr.owner import owned_directory
from knarr.record import record
from knarr.scope import Scope
from knarr.session.session import SshAgent

_NAME = "agent"


@record
class LentSocket:
    """Where the agent listens. `directory` is this socket's own and goes with it.

    `short` leads there as well, as long as this process lives: the path of a socket has
    room for 107 bytes, and that of a state directory may be longer.
    """

    directory: Path
    short: str

    @property
    def path(self) -> Path:
        return self.directory / _NAME


@contextmanager
def lent_socket(
    state: Path, agent: SshAgent, scope: Scope, *, mode: int = 0o600, uid: int = 0, gid: int = 0
) -> Iterator[LentSocket]:
    """Let `agent` answer at a socket below the state directory `state` while in the block."""
    with ExitStack() as stack:
        directory = stack.enter_context(owned_directory(state / "run/agents"))
        handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, handle)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"/proc/self/fd/{handle}/{_NAME}")
        if os.geteuid() == 0:  # for anybody else, the step's root is this user
            os.chown(directory / _NAME, uid, gid)
        os.chmod(directory / _NAME, mode & 0o777)
        listener.listen()
        threads = stack.enter_context(Scope())
        door = _Door(agent, listener, threads)
        stack.enter_context(scope.on_cancel(door.shut))
        stack.callback(door.shut)
        threads.start(door.stand)
        yield LentSocket(directory, f"/proc/{os.getpid()}/fd/{handle}/{_NAME}")


class _Door:
    """Takes in one client after the other until it is shut; each has a thread."""

    def __init__(self, agent: SshAgent, listener: socket.socket, threads: Scope) -> None:
        self._agent, self._listener, self._threads = agent, listener, threads
        self._inside: set[socket.socket] = set()
        self._is_shut = False

    def stand(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # shut
            self._inside.add(client)
            if self._is_shut:  # between its coming in and our noting that
                client.close()
                return
            self._threads.attempt(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError):  # either side has gone
                self._agent.serve(client)
        finally:
            self._inside.discard(client)

    def shut(self) -> None:
        self._is_shut = True
        for connection in (self._listener, *tuple(self._inside)):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
