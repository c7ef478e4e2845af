"""A gRPC connection that runs backwards through a stream: the client serves, the daemon calls.

`Control.Session` carries the bytes of a second HTTP/2 connection, piece by piece.
gRPC's library only opens connections by address, so the pieces are passed on to a
socket in a directory that nobody else can enter, where a channel has connected.

    with Tunnel(directory) as tunnel:
        ... call through tunnel.channel, on other threads ...
        yield from tunnel.carry(pieces)     # on the stream's own thread, until either side hangs up

Spec: BuildKit's session/grpchijack.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import grpc

from knarr.buildkit.service import OPTIONS
from knarr.scope import Scope

_PIECE = 64 << 10  # bytes
_CONNECT_S = 10
_KNOCK = "/grpc.health.v1.Health/Check"  # which clients of BuildKit's serve, and others refuse
_CHANNEL = (
    *OPTIONS,
    ("grpc.use_local_subchannel_pool", 1),  # never the connection of another tunnel
    ("grpc.enable_retries", 0),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Tunnel:
    """One connection. `channel` is ready for calls as soon as `carry` is under way."""

    def __init__(self, directory: Path) -> None:
        """`directory` is one that only this user may enter; a socket lies there until the channel has connected."""
        self._path = os.path.join(directory, os.urandom(8).hex())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        self._listener.listen(1)
        self._listener.settimeout(_CONNECT_S)
        self.channel: grpc.Channel = grpc.insecure_channel(f"unix:{self._path}", _CHANNEL)
        self._connection: socket.socket | None = None

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.channel.close()
        self._close()

    def connect(self) -> None:
        """Have the channel connect; calls may be made from now on.

        Raises:
            TimeoutError: it did not, which is a defect or a machine under heavy load.
        """
        # A call makes it connect, whatever comes of the call. To subscribe to the channel's state does so as well, but
        # then closing it waits for a poll to end, 200 ms, and with it the client for the end of its build.
        knock: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(_KNOCK)
        self._knock = knock.future(b"", timeout=_CONNECT_S)
        try:
            self._connection, _ = self._listener.accept()
        finally:
            self._listener.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)

    def carry(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Pass on what comes in by `pieces`, and yield what goes out, until either side ends."""
        connection = self._connection
        if connection is None:
            raise ValueError("a tunnel is connected before it carries")
        with Scope() as scope:
            scope.attempt(_inward, pieces, connection)
            try:
                while piece := _received(connection):
                    yield piece
            finally:
                self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        self._hang_up()
        self._listener.close()
        if self._connection is not None:
            self._connection.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def cut(self) -> None:
        """Break the connection off, from any thread: `carry` ends, and calls under way fail."""
        self._hang_up()


def _inward(pieces: Iterator[bytes], connection: socket.socket) -> None:
    try:
        for piece in pieces:
            connection.sendall(piece)
    except (OSError, grpc.RpcError):
        return  # the other direction tells why
    finally:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(_PIECE)
    except OSError:
        return b""
