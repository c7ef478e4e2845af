"""Agents that a caller lends to a build: another agent's socket, or keys read from files.

The agent protocol is a list of keys (`IDENTITIES`) and signatures made with them
(`SIGN`). Nothing else passes: who is lent keys can neither add nor remove nor
lock them, nor ask for extensions. Requests and answers are a length and a body.

Spec: draft-miller-ssh-agent, sections 3 and 4; BuildKit's session/sshforward.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.session.local import SshSource

if TYPE_CHECKING:
    from knarr.session.sshkeys import SshKey

FAILURE = 5
REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14
_PASSED_ON = (REQUEST_IDENTITIES, SIGN_REQUEST)
_MAX_MESSAGE_BYTES = 256 << 10  # OpenSSH's AGENT_MAX_LEN
_CONNECT_S = 2.0  # to a socket of this machine


def open_agent(id: str, source: SshSource, known_hosts: bytes) -> ForwardedAgent | KeyAgent:
    """The agent of a source.

    Raises:
        UsageError: a key cannot be read, or no agent listens at the socket.
    """
    if source.socket is not None:
        agent = ForwardedAgent(source.socket, known_hosts)
        try:
            agent.connect().close()
        except OSError as error:
            raise UsageError(
                f"--ssh {id}: no agent at {source.socket}: {error.strerror or error}",
                hint="start one with `eval $(ssh-agent)` and `ssh-add`, or name a key: --ssh ID=FILE",
            ) from error
        return agent
    from knarr.session.sshkeys import read_key

    return KeyAgent([read_key(id, path) for path in source.keys], known_hosts)


class KeyAgent:
    """Implements `session.SshAgent` with keys of its own."""

    def __init__(self, keys: list[SshKey], known_hosts: bytes) -> None:
        self._keys = keys
        self.known_hosts = known_hosts

    def serve(self, connection: socket.socket) -> None:
        _converse(connection, self._answer)

    def _answer(self, request: bytes) -> bytes:
        if request[:1] == bytes([REQUEST_IDENTITIES]):
            listed = b"".join(text(key.public) + text(b"") for key in self._keys)
            return struct.pack(">BI", IDENTITIES_ANSWER, len(self._keys)) + listed
        if request[:1] == bytes([SIGN_REQUEST]):
            public, rest = _taken(request[1:])
            data, rest = _taken(rest)
            key = next((key for key in self._keys if key.public == public), None)
            if key is not None and len(rest) == 4:
                return bytes([SIGN_RESPONSE]) + text(key.sign(data, struct.unpack(">I", rest)[0]))
        return bytes([FAILURE])


class ForwardedAgent:
    """Implements `session.SshAgent` with the keys of the agent that listens at a socket."""

    def __init__(self, path: Path, known_hosts: bytes) -> None:
        self._path = path
        self.known_hosts = known_hosts

    def connect(self) -> socket.socket:
        """A connection to the agent.

        Raises:
            OSError: nobody listens there.
        """
        agent = socket.socket(socket.AF_UNIX)
        try:
            agent.settimeout(_CONNECT_S)
            agent.connect(str(self._path))
            agent.settimeout(None)
        except BaseException:
            agent.close()
            raise
        return agent

    def serve(self, connection: socket.socket) -> None:
        """See the protocol.

        Raises:
            OSError: the agent has gone.
        """
        with self.connect() as agent:

            def ask(request: bytes) -> bytes:
                if request[:1] not in (bytes([kind]) for kind in _PASSED_ON):
                    return bytes([FAILURE])
                send(agent, request)
                # The agent may ask its user first; who hangs up meanwhile must not keep this thread.
                return receive(agent) or b"" if _first(agent, connection) is agent else b""

            _converse(connection, ask)


def _converse(connection: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    while request := receive(connection):
        said = answer(request)
        if not said:
            return
        send(connection, said)


def _first(agent: socket.socket, client: socket.socket) -> socket.socket:
    """Who moves first: the agent with an answer, or the client by hanging up."""
    poll = select.poll()
    poll.register(agent, select.POLLIN)
    poll.register(client, select.POLLRDHUP)
    ready = [descriptor for descriptor, _ in poll.poll()]
    return agent if agent.fileno() in ready else client


def send(connection: socket.socket, body: bytes) -> None:
    """Write one message."""
    connection.sendall(text(body))


def receive(connection: socket.socket) -> bytes | None:
    """Read one message; None at the end, or when what comes is none."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    size = struct.unpack(">I", head)[0]
    return _exactly(connection, size) if 0 < size <= _MAX_MESSAGE_BYTES else None


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        try:
            more = connection.recv(size - len(data))
        except OSError:
            return None  # shut down while we waited
        if not more:
            return None
        data += more
    return data


def text(value: bytes) -> bytes:
    """A string of the protocol: its length and its bytes (RFC 4251, section 5)."""
    return struct.pack(">I", len(value)) + value


def _taken(data: bytes) -> tuple[bytes, bytes]:
    """The string at the beginning of `data`, and what is behind it; empty when there is none."""
    if len(data) < 4:
        return b"", b""
    end = 4 + struct.unpack(">I", data[:4])[0]
    return (data[4:end], data[end:]) if end <= len(data) else (b"", b"")
