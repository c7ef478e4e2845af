"""TLS in front of the gRPC server, which is spoken to over a private socket behind it.

gRPC's own TLS refuses clients that do not say in the handshake (ALPN) that they will
speak HTTP/2. buildx's remote driver, with which people drive buildkitd over mTLS, says
nothing (tried: 0.13 and 0.33), and buildkitd takes it. So TLS ends here: with ALPN for
who asks, without for who does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.scope import TICK_S, Scope

if TYPE_CHECKING:
    from knarr.daemon.settings import Tls

_PIECE = 256 << 10
_HANDSHAKE_S = 30.0


def context(tls: Tls) -> ssl.SSLContext:
    """The server's side; with a CA, clients must show a certificate that it signed.

    Raises:
        UsageError: a file is missing, or is not what it should be.
    """
    if not (tls.cert and tls.key):
        raise UsageError("TLS needs a certificate and its key", hint="give both --tlscert and --tlskey")
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.set_alpn_protocols(["h2"])
    for path in filter(None, (tls.cert, tls.key, tls.ca)):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
    try:
        found.load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        raise UsageError(f"{tls.cert}, {tls.key}: no certificate with its key: {error.reason}") from error
    if tls.ca:
        try:
            found.load_verify_locations(tls.ca)
        except ssl.SSLError as error:
            raise UsageError(f"{tls.ca}: no certificate of a CA: {error.reason}") from error
        found.verify_mode = ssl.CERT_REQUIRED
    return found


@contextlib.contextmanager
def front(listeners: Sequence[socket.socket], secured: ssl.SSLContext, inner: str) -> Iterator[None]:
    """Serve TLS on `listeners`, which are closed in the end, and pass on what is said to the unix socket `inner`."""
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        ended = asyncio.Event()
        stop.append(partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set))
        connections: set[asyncio.Task[None]] = set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await _joined(reader, writer, inner)
            finally:
                connections.discard(task)

        servers = [
            await asyncio.start_server(
                accepted, sock=listener, ssl=secured, ssl_handshake_timeout=_HANDSHAKE_S, limit=_PIECE
            )
            for listener in listeners
        ]
        asyncio.get_running_loop().set_exception_handler(lambda loop, about: None)  # handshakes that fail are no news
        ready.set()
        await ended.wait()
        for server in servers:
            server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    with Scope() as scope:
        running = scope.start(asyncio.run, serve())
        while not ready.wait(TICK_S):
            if running.done():
                running.result()
        try:
            yield
        finally:
            stop[0]()


async def _joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, inner: str) -> None:
    """One connection, until either side ends it. TLS knows no half-closed connections, and HTTP/2 needs none."""
    with contextlib.suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
        near, far = await asyncio.open_unix_connection(inner, limit=_PIECE)
        directions = [asyncio.ensure_future(_pass_on(reader, far)), asyncio.ensure_future(_pass_on(near, writer))]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            far.close()
    writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(_PIECE):
        target.write(data)
        await target.drain()
