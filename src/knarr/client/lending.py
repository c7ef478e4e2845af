"""A session with a builder: a connection that runs backwards through a call, on which we serve.

grpcio serves sockets only, so the bytes of the call are led into one of its own by
two threads that move them. The socket lies in a directory that nobody else enters.

    with lent(builder.control, {FILE_SYNC: Files(session)}, place, shared_key="…", scope=scope) as id:
        … Solve(Session=id) …

Spec: BuildKit's session and session/grpchijack.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from knarr.buildkit.rpcthreads import RpcThreads
from knarr.buildkit.service import OPTIONS, Caller, methods_of, serving
from knarr.pb.control_pb2 import BytesMessage
from knarr.scope import Scope

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

_PIECE = 64 << 10
_HEADER = "x-docker-expose-session-"


@contextmanager
def lent(
    control: Caller, services: Mapping[ServiceDescriptor, object], place: Path, *, shared_key: str, scope: Scope
) -> Iterator[str]:
    """Serve to the builder while in the block; gives the session's id.

    `place` is a directory of ours alone. `shared_key` names the place that our
    directories lie in: equal for builds that follow each other. Cancelling `scope`
    hangs up.
    """
    id = os.urandom(16).hex()
    with Scope() as own, scope.on_cancel(own.cancel), _served(services, place, own) as near:
        told = [("uuid", id), ("name", "knarr"), ("sharedkey", shared_key)]
        told += [("grpc-method", method) for service, ours in services.items() for method in methods_of(service, ours)]
        call = control.stream("Session", _outward(near), metadata=[(_HEADER + key, text) for key, text in told])
        own.attempt(_inward, call, near)
        with own.on_cancel(call.cancel):
            try:
                yield id
            finally:
                call.cancel()
                _hang_up(near)


@contextmanager
def _served(services: Mapping[ServiceDescriptor, object], place: Path, scope: Scope) -> Iterator[socket.socket]:
    """A connection to a server of `services`."""
    opened = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = f"/proc/self/fd/{opened}/session.sock"  # the path of a socket is bounded to 107 bytes
    threads = RpcThreads(scope)
    server = grpc.server(threads, options=OPTIONS)
    try:
        server.add_generic_rpc_handlers([serving(*service) for service in services.items()])
        alive = health.HealthServicer()
        alive.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(alive, server)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        with socket.socket(socket.AF_UNIX) as near:
            near.connect(path)
            yield near
    finally:
        server.stop(0).wait()
        threads.close()
        os.close(opened)


def _outward(near: socket.socket) -> Iterator[BytesMessage]:
    with contextlib.suppress(OSError):
        while data := near.recv(_PIECE):
            yield BytesMessage(data=data)


def _inward(call: Any, near: socket.socket) -> None:
    try:
        for message in call:
            near.sendall(message.data)
    except (OSError, grpc.RpcError):
        return  # who waits for the build is told why
    finally:
        _hang_up(near)


def _hang_up(near: socket.socket) -> None:
    with contextlib.suppress(OSError):
        near.shutdown(socket.SHUT_RDWR)
