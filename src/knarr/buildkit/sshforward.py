"""The ssh agent of a client, at the end of a stream.

Spec: BuildKit's session/sshforward.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from knarr.errors import KnarrError, NotFound
from knarr.pb import sshforward_pb2
from knarr.pb.sshforward_pb2 import BytesMessage, CheckAgentRequest
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.buildkit.sessions import Client

SSH = sshforward_pb2.DESCRIPTOR.services_by_name["SSH"]
_PIECE = 32 << 10
_ANSWER_S = 60.0


class RemoteAgent:
    """Implements `session.SshAgent`: each connection is a call of its own."""

    def __init__(self, client: Client, id: str) -> None:
        self._client = client
        self._id = id

    @property
    def known_hosts(self) -> bytes:
        """None: a client tells no host keys."""
        return b""

    def serve(self, connection: socket.socket) -> None:
        """Carry one conversation with the agent, until either side hangs up."""
        call = self._client.caller(SSH).stream(
            "ForwardAgent", _pieces(connection), metadata=[("buildkit.ssh.id", self._id)]
        )
        with Scope() as scope:
            scope.attempt(_answers, call, connection)


def open_agent(client: Client, id: str) -> RemoteAgent | None:
    """The client's agent `id`, or None when it lends none."""
    if not client.offers(SSH, "CheckAgent"):
        return None
    name = id or "default"
    try:
        client.caller(SSH).unary("CheckAgent", CheckAgentRequest(ID=name), timeout_s=_ANSWER_S)
    except NotFound:
        return None
    except KnarrError as error:
        if "unset ssh forward key" in error.message:  # BuildKit's words for an id that was not given
            return None
        raise
    return RemoteAgent(client, name)


def _pieces(connection: socket.socket) -> Iterator[BytesMessage]:
    with contextlib.suppress(OSError):
        while data := connection.recv(_PIECE):
            yield BytesMessage(data=data)


def _answers(call: Iterator[BytesMessage], connection: socket.socket) -> None:
    try:
        for message in call:
            connection.sendall(message.data)
    except (OSError, grpc.RpcError):
        return  # whoever asked sees that the agent has hung up
    finally:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
