"""Calls to a container's monitor: its socket lies in the container's directory."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from knarr.containers import wire
from knarr.containers.store import Container
from knarr.errors import KnarrError, RuntimeFailed, UsageError


class NotRunning(KnarrError):
    """The container has no monitor."""


@contextmanager
def called(container: Container, request: Mapping[str, Any]) -> Iterator[socket.socket]:
    """A connection on which `request` was said.

    Raises:
        NotRunning: nobody listens.
    """
    with connected(container) as connection:
        wire.tell(connection, wire.REQUEST, dict(request))
        yield connection


@contextmanager
def connected(container: Container) -> Iterator[socket.socket]:
    """A connection to the monitor, on which nothing was said yet.

    Raises:
        NotRunning: nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _short(container) as path:
        try:
            connection.connect(path)
        except OSError as error:
            raise NotRunning(
                f"container {container.spec.name} is not running", hint=f"knarr start {container.spec.name}"
            ) from error
        yield connection


@contextmanager
def _short(container: Container) -> Iterator[str]:
    """The socket's path by a descriptor of its directory: a whole one may be longer than a socket's may be."""
    directory = os.open(container.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/socket"
    finally:
        os.close(directory)


def answer(container: Container, request: Mapping[str, Any]) -> Any:
    """Say `request` and wait for the one answer to it: what the frame `ENDED` carries.

    Raises:
        NotRunning: nobody listens, or the monitor ended before it answered.
        KnarrError: the monitor said no.
    """
    with called(container, request) as connection:
        while (frame := wire.receive(connection)) is not None:
            kind, data = frame
            if kind == wire.FAILED:
                raise failure(data)
            if kind == wire.ENDED:
                return json.loads(data)
    raise NotRunning(f"container {container.spec.name} has ended")


def failure(data: bytes) -> KnarrError:
    """The error that a frame `FAILED` carries."""
    told = json.loads(data)
    kind: type[KnarrError] = UsageError if told.get("usage") else RuntimeFailed
    error = kind(told["message"], hint=told.get("hint", ""))
    if isinstance(error, RuntimeFailed):
        error.program_status = told.get("status", 0)
    return error


def told(error: KnarrError) -> dict[str, Any]:
    """`error` as a frame `FAILED` carries it."""
    about = ", ".join(f"{key} {value}" for key, value in error.context.items() if value)
    return {
        "message": error.message + (f" ({about})" if about else ""),
        "hint": error.hint,
        "usage": isinstance(error, UsageError),
        "status": error.program_status if isinstance(error, RuntimeFailed) else 0,
    }
