"""One request that was understood: its route, its query, who asks, and its body as a bounded stream.

`Answer` builds what goes back. Bodies are read in pieces, each of which must come
within `idle_s`; a client that lets the server wait is cut off, and keeps what it
has sent so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import web
from aiohttp.http import HttpVersion11

from knarr.record import record
from knarr.registry.refusal import Refusal
from knarr.registry.rights import Caller
from knarr.registry.routes import Query, Route

OCTETS = "application/octet-stream"
JSON = "application/json"


class Cut(Exception):
    """The body ended before it was whole: the client has gone, or was too slow."""


@record
class Call:
    """What a handler is given."""

    request: web.BaseRequest
    route: Route
    query: Query
    caller: Caller
    idle_s: float

    @property
    def method(self) -> str:
        return self.request.method

    def first(self, name: str) -> str:
        """The first value of a query parameter, or ""."""
        return next((value for key, value in self.query if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.query)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            Cut: it is not whole.
        """
        await self._invite()
        content = self.request.content
        while True:
            try:
                async with asyncio.timeout(self.idle_s):
                    piece = await content.readany()
            except (TimeoutError, ConnectionError, web.HTTPException) as error:
                raise Cut(str(error)) from error
            except asyncio.CancelledError:
                raise
            except Exception as error:  # aiohttp's ClientPayloadError and its kin: the connection broke off
                raise Cut(str(error)) from error
            if not piece:
                return
            yield piece

    async def body(self, limit: int) -> bytes:
        """The whole body, if it is no longer than `limit`.

        Raises:
            Cut
            Refusal: 413.
        """
        if (self.request.content_length or 0) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            parts.append(piece)
        return b"".join(parts)

    async def _invite(self) -> None:
        """Tell a client that asked before sending that it may send."""
        request = self.request
        if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
            transport = request.transport
            if transport is not None:
                transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def answer(
    status: int, *, body: bytes | None = None, kind: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """A response; without a body its length is 0."""
    response = web.Response(status=status, body=body, headers=headers)
    if kind:
        response.headers["Content-Type"] = kind
    return response


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "SIZE_INVALID", f"a manifest may have {limit} bytes here", headers={"Connection": "close"})
