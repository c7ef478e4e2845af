"""What a session lends, as the services that a builder calls on it: files, secrets, logins and agents.

Each class has a method per call; see `buildkit.service`.

Spec: BuildKit's session/filesync, session/secrets, session/auth and session/sshforward.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from knarr.buildkit.failure import Told
from knarr.client.files import Selection, Sender
from knarr.errors import UsageError
from knarr.pb import secrets_pb2, sshforward_pb2
from knarr.pb.status_pb2 import Status
from knarr.session.session import Wanted

if TYPE_CHECKING:
    import grpc

    from knarr.pb.packet_pb2 import Packet
    from knarr.scope import Scope
    from knarr.session.session import Session, SshAgent

NOT_FOUND, ALREADY_EXISTS, OUT_OF_RANGE = 5, 6, 11  # of google.rpc.Code
_PIECE = 32 << 10


def not_there(message: str) -> Told:
    """A failure by which the far side knows that there is no such thing."""
    return Told(message, status=Status(code=NOT_FOUND))


def headers(context: grpc.ServicerContext) -> dict[str, list[str]]:
    """The headers of a call by name; those that had to be escaped are as they were."""
    values: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata():
        values.setdefault(key, []).append(value if isinstance(value, str) else value.decode(errors="replace"))
    return {
        key: [unquote_plus(text) for text in texts] if f"{key}-encoded" in values else texts
        for key, texts in values.items()
    }


class Files:
    """`FileSync`: the directories of the session."""

    def __init__(self, session: Session, scope: Scope) -> None:
        """`scope` owns the threads that listen to calls; they end with those."""
        self._session = session
        self._scope = scope

    def diff_copy(self, requests: Iterator[Packet], context: grpc.ServicerContext) -> Iterator[Packet]:
        given = headers(context)
        name = "".join(given.get("dir-name", [])[:1])
        try:
            root = os.path.realpath(self._session.files(Wanted(name)))
        except UsageError:
            raise not_there(f'no access allowed to dir "{name}"') from None
        wanted = Selection(
            tuple(given.get("include-patterns", ())),
            tuple(given.get("exclude-patterns", ())),
            tuple(given.get("followpaths", ())),
        )
        shown = "build context" if name == "context" else f"context {name}"
        yield from Sender(shown, root, wanted).packets(requests, scope=self._scope)


class Secrets:
    """`Secrets`: each is read when a step asks for it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_secret(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self._session.secret(request.ID)
        if found is None:
            raise not_there(f"secret {request.ID}: not found")
        return secrets_pb2.GetSecretResponse(data=found.value)


class Agents:
    """`SSH`: a connection to an agent is a call; keys stay here."""

    def __init__(self, session: Session, scope: Scope) -> None:
        """`scope`: as in `Files`."""
        self._session = session
        self._scope = scope

    def check_agent(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self._session.ssh(request.ID) is None:
            raise not_there(f"unset ssh forward key {request.ID or 'default'}")
        return sshforward_pb2.CheckAgentResponse()

    def forward_agent(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        id = "".join(headers(context).get("buildkit.ssh.id", [])[:1])
        agent = self._session.ssh(id)
        if agent is None:
            raise not_there(f"unset ssh forward key {id or 'default'}")
        ours, theirs = socket.socketpair()
        self._scope.attempt(_inward, requests, ours.dup())
        self._scope.attempt(_served, agent, theirs)
        with ours:
            try:
                while data := ours.recv(_PIECE):
                    yield sshforward_pb2.BytesMessage(data=data)
            finally:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)  # and so the threads end


def _inward(requests: Iterator[Any], connection: socket.socket) -> None:
    with connection:
        try:
            for message in requests:
                connection.sendall(message.data)
        except Exception:  # grpc's own kinds, when the call ends; the other direction tells of it
            return
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)  # the agent has heard it all


def _served(agent: SshAgent, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        agent.serve(connection)
