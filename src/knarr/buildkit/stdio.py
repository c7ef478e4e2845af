"""gRPC over a process's standard input and output: we serve, the process calls.

grpcio serves sockets only, so the process's pipes are led into one of its own by
two threads that move bytes. The socket lies in a directory that nobody else enters.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc

from knarr.buildkit.service import OPTIONS
from knarr.scope import Scope

_WORKERS = 64  # calls at the same time: a solve and a process hold one each for as long as they last
_CHUNK = 1 << 16


class Pipes:
    """What the process is given, and how the talk went."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.over = False  # the process has ended
        self.broken = False  # our end hung up before: what came was not gRPC

    def end(self) -> None:
        """Let go of the process's ends, after it has ended: only then do the threads see the end of its output."""
        if not self.over:
            self.over = True
            os.close(self.stdin)
            os.close(self.stdout)


@contextmanager
def serving_pipes(
    services: Sequence[grpc.GenericRpcHandler], directory: Path, *, on_broken: Callable[[], object], scope: Scope
) -> Iterator[Pipes]:
    """Serve `services` to the process that gets the pipes, while in the block.

    `directory` is ours alone. `on_broken` is called (from a thread) when the process does not speak gRPC.
    The threads are those of `scope`; they have ended when the block is left.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_WORKERS, thread_name_prefix="gateway"))
        # By way of the descriptor: the path of a socket is bounded to 107 bytes, that of a state directory is not.
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, opened)
        path = f"/proc/self/fd/{opened}/gateway.sock"
        server = grpc.server(pool, handlers=list(services), options=OPTIONS)
        server.add_insecure_port(f"unix:{path}")
        server.start()
        stack.callback(lambda: server.stop(0).wait())
        near = stack.enter_context(socket.socket(socket.AF_UNIX))
        near.connect(path)
        stdin, to_process = os.pipe()
        from_process, stdout = os.pipe()
        pipes = Pipes(stdin, stdout)
        outward = scope.attempt(_outward, near, to_process, pipes, on_broken)
        inward = scope.attempt(_inward, from_process, near)
        try:
            yield pipes
        finally:
            pipes.end()
            inward.result()
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
            outward.result()


def _inward(from_process: int, near: socket.socket) -> None:
    """What the process says, to the server."""
    with suppress(OSError), open(from_process, "rb", buffering=0) as source:
        while data := source.read(_CHUNK):
            near.sendall(data)
    with suppress(OSError):
        near.shutdown(socket.SHUT_WR)


def _outward(near: socket.socket, to_process: int, pipes: Pipes, on_broken: Callable[[], object]) -> None:
    """What the server says, to the process; and if it hangs up first, it is told."""
    with open(to_process, "wb", buffering=0) as sink:
        while data := _heard(near):
            try:
                _write_all(sink.fileno(), data)
            except OSError:
                return  # the process has closed its input, or has ended
    if not pipes.over:
        pipes.broken = True
        on_broken()


def _heard(near: socket.socket) -> bytes:
    """What the server says next; nothing when it has hung up, politely or not."""
    try:
        return near.recv(_CHUNK)
    except OSError:
        return b""


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
