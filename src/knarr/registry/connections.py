"""Connections, watched: how many there may be, and how long one may keep the server waiting.

A handler itself gives up on a body that does not come (`call`). Before there is a
request there is no handler: a client that sends its header a byte at a time, or
never, is cut off here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from knarr.registry.settings import Limits

_TICK_S = 1.0
_KEEP_S = 90.0  # a connection that had a request may lie idle so long before the next


class Connections(web.Server):
    """aiohttp's low-level server, with an eye on each connection."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], limits: Limits) -> None:
        super().__init__(
            self._watched,
            access_log=None,
            auto_decompress=False,  # a body is stored as it was sent
            keepalive_timeout=_KEEP_S,
            lingering_time=0.5,
            read_bufsize=1 << 18,
        )
        self._answer = handler
        self._limits = limits
        self._since: dict[RequestHandler, float] = {}  # those without a request, and since when

    async def _watched(self, request: web.BaseRequest) -> web.StreamResponse:
        protocol = request.protocol
        self._since.pop(protocol, None)
        try:
            return await self._answer(request)
        finally:
            self._since[protocol] = time.monotonic() + _KEEP_S

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self._limits.connections:
            transport.abort()
        self._since[handler] = time.monotonic()
        link = transport.get_extra_info("socket")
        if link is not None and link.family in (socket.AF_INET, socket.AF_INET6):
            # Who asks for a blob and does not read it: the kernel ends the connection.
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._limits.idle_s * 1000))

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._since.pop(handler, None)

    async def watch(self) -> None:
        """Cut off, until cancelled, who has begun a connection and no request for too long."""
        while True:
            await asyncio.sleep(_TICK_S)
            late = time.monotonic() - self._limits.idle_s
            for handler in [handler for handler, since in self._since.items() if since < late]:
                self._since.pop(handler, None)
                if handler.transport is not None:
                    handler.transport.abort()
