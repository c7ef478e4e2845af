"""A connection by way of a command: its standard input and output lead to the builder.

gRPC opens connections by address, so the command is given one: a socket in a
directory that nobody else enters, and for each connection to it the command is
started anew, with that connection as its standard input and output.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knarr.scope import Scope

_LAST_BYTES = 2000  # of what a command said when it failed
_END_S = 2.0


class Relay:
    """The socket's `path`, and what the command last said."""

    def __init__(self, path: str, command: tuple[str, ...], words: Path) -> None:
        self.path = path
        self._command = command
        self._words = words
        self._running: list[subprocess.Popen[bytes]] = []
        self.missing = False  # the program is not installed

    def serve(self, listener: socket.socket) -> None:
        """Start the command for each connection, until the listener is shut down."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, self._words.open("ab") as words:
                try:
                    # In a session of its own: Ctrl-C is for us, who then tell the builder; and no program
                    # asks a question on a terminal that progress is written to.
                    process = subprocess.Popen(
                        self._command,
                        stdin=connection.fileno(),
                        stdout=connection.fileno(),
                        stderr=words,
                        start_new_session=True,
                    )
                except FileNotFoundError:
                    self.missing = True
                    continue
                except OSError as error:
                    words.write(f"{self._command[0]}: {error.strerror}\n".encode())
                    continue
                self._running.append(process)

    def last_words(self) -> str:
        """The last lines that the command wrote, as one."""
        try:
            data = self._words.read_bytes()[-_LAST_BYTES:]
        except FileNotFoundError:
            return ""
        lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
        return "; ".join(lines[-3:])

    def close(self) -> None:
        """End every command that still runs."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def relayed(command: tuple[str, ...], place: Path) -> Iterator[Relay]:
    """A relay through `command`; its socket lies in `place`, a directory of ours alone, for the time of the block."""
    # By way of the descriptor: the path of a socket is bounded to 107 bytes, that of a state directory is not.
    opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    relay = Relay(f"/proc/self/fd/{opened}/relay.sock", command, place / "relay.log")
    try:
        listener.bind(relay.path)
        listener.listen()
        with Scope() as scope:
            scope.attempt(relay.serve, listener)
            try:
                yield relay
            finally:
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)  # wakes up who waits in accept
    finally:
        relay.close()
        listener.close()
        os.close(opened)
