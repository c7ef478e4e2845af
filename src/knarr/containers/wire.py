"""What a monitor and its callers say to each other over a stream socket: frames of a kind and some bytes.

A caller begins with one request; what follows depends on it. Numbers and texts travel as
JSON, what a terminal or a pipe carries as it is.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from knarr.errors import ContentError

REQUEST = b"Q"  # caller: {"do": "attach" | "exec" | "signal" | "stop" | "wait", …}
STDIN = b"I"  # caller: bytes; none is the end
RESIZE = b"R"  # caller: [rows, columns]
SIGNAL = b"K"  # caller: a number, for the process it is attached to
DETACH = b"D"  # caller: goes, and the process is to go on
STDOUT = b"O"  # monitor: bytes
STDERR = b"E"
STARTED = b"S"  # monitor: {"pid": …}
ENDED = b"X"  # monitor: {"status": …}
FAILED = b"F"  # monitor: {"message": …, "hint": …, "status": …}

_HEAD = struct.Struct("!cI")
_MOST = 1 << 20  # bytes of one frame


def send(connection: socket.socket, kind: bytes, data: bytes = b"") -> None:
    """Send one frame; blocks while the other side does not read.

    Raises:
        OSError: the other side is gone.
    """
    connection.sendall(packed(kind, data))


def tell(connection: socket.socket, kind: bytes, value: Any) -> None:
    """Send one frame with a value."""
    send(connection, kind, encoded(value))


def packed(kind: bytes, data: bytes) -> bytes:
    """The bytes of a frame."""
    return _HEAD.pack(kind, len(data)) + data


def encoded(value: Any) -> bytes:
    """A value as the bytes of a frame."""
    return json.dumps(value).encode()


def decoded(data: bytes) -> Any:
    """What `encoded` made bytes of.

    Raises:
        ContentError: that it did not.
    """
    try:
        return json.loads(data)
    except ValueError as error:
        raise ContentError(f"a frame that should carry JSON does not: {error}") from error


def receive(connection: socket.socket) -> tuple[bytes, bytes] | None:
    """The next frame; None: the other side is gone.

    Raises:
        ContentError: that is no frame.
    """
    head = _exactly(connection, _HEAD.size)
    if head is None:
        return None
    kind, size = _HEAD.unpack(head)
    if size > _MOST:
        raise ContentError(f"a frame of {size} bytes is not one of ours")
    data = _exactly(connection, size)
    return None if data is None else (kind, data)


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        try:
            part = connection.recv(min(size, 1 << 16))
        except ConnectionError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
