"""One request at a time for each upload, and the newest wins.

A client whose connection broke comes back before the server has noticed. The old
request then holds the upload and waits for bytes that will never come: its
connection is cut, it writes down what it has, and the new one has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._holders: dict[str, tuple[asyncio.Lock, list[asyncio.Transport | None]]] = {}

    @asynccontextmanager
    async def take(self, name: str, transport: asyncio.Transport | None) -> AsyncIterator[None]:
        """The turn for `name`. Whoever had it, or waits for it, loses the connection."""
        lock, transports = self._holders.setdefault(name, (asyncio.Lock(), []))
        for older in transports:
            if older is not None:
                older.abort()
        transports.append(transport)
        try:
            async with lock:
                yield
        finally:
            transports.remove(transport)
            if not transports:
                self._holders.pop(name, None)
