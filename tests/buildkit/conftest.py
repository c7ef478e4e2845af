"""A server with the one call that opens sessions, and what waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.service import OPTIONS, serving
from knarr.buildkit.sessions import Sessions
from knarr.pb import control_pb2

from .client import Client

CONTROL = control_pb2.DESCRIPTOR.services_by_name["Control"]
Connect = Callable[..., Client]


class _Control:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def session(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        pieces = (message.data for message in messages)
        for piece in self._sessions.attend(pieces, tuple(context.invocation_metadata()), hang_up=context.cancel):
            yield control_pb2.BytesMessage(data=piece)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def sessions(private: Path) -> Iterator[Sessions]:
    found = Sessions(private)
    yield found
    found.close()


@pytest.fixture
def connect(sessions: Sessions, private: Path, tmp_path: Path) -> Iterator[Connect]:
    """Makes clients; enter one to have it open its session."""
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=OPTIONS)
        server.add_generic_rpc_handlers((serving(CONTROL, _Control(sessions)),))
        server.add_insecure_port(f"unix:{private}/server.sock")
        server.start()
        with grpc.insecure_channel(f"unix:{private}/server.sock", OPTIONS) as channel:
            yield lambda **lent: Client(channel, private, **lent)
        server.stop(0).wait()
