"""Tells other services what happened: a POST of JSON for each event, in the form distribution sends.

Events wait in a queue of bounded length and are sent one after another, each tried
for some minutes; a receiver that is down for longer loses the oldest. With a
secret, `X-Knarr-Signature: sha256=<hex>` is the HMAC of the body.

Spec: distribution, "Notifications" (media type application/vnd.docker.distribution.events.v1+json).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp

from knarr.record import field, record
from knarr.registry.events import Event
from knarr.registry.rules import matches

KIND = "application/vnd.docker.distribution.events.v1+json"
_WAITING = 10_000  # events
_TRIES = 8  # with 1, 2, 4 … seconds between them
_TIMEOUT_S = 10.0


@record
class Webhook:
    """One receiver, and what it wants to hear."""

    url: str
    secret: str = field(default="", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    actions: tuple[str, ...] = ("push", "mount", "delete")
    repositories: tuple[str, ...] = ("**",)


class Sender:
    """The queue of one receiver."""

    def __init__(self, hook: Webhook, tell: Callable[[str], object], *, first_wait_s: float = 1.0) -> None:
        self._hook = hook
        self._tell = tell
        self._first_wait_s = first_wait_s
        self._queue: asyncio.Queue[Event] = asyncio.Queue(_WAITING)

    def hear(self, event: Event) -> None:
        """Queue an event, if the receiver wants it."""
        hook = self._hook
        if event.action not in hook.actions or not any(matches(p, event.repository) for p in hook.repositories):
            return
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Send until cancelled; what waits then has a few seconds more."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, headers={"User-Agent": "knarr"}) as session:
            try:
                while True:
                    await self._deliver(session, await self._queue.get())
            finally:
                with suppress(TimeoutError, aiohttp.ClientError, asyncio.QueueEmpty):
                    async with asyncio.timeout(2.0):
                        while True:
                            await self._post(session, self._queue.get_nowait())

    async def _deliver(self, session: aiohttp.ClientSession, event: Event) -> None:
        wait = self._first_wait_s
        for attempt in range(_TRIES):
            try:
                if await self._post(session, event) < 300:
                    return
            except (TimeoutError, aiohttp.ClientError):
                pass
            if attempt + 1 < _TRIES:
                await asyncio.sleep(wait)
                wait *= 2
        self._tell(f"webhook {self._hook.url} did not take an event ({event.action} of {event.repository}): given up")

    async def _post(self, session: aiohttp.ClientSession, event: Event) -> int:
        body = json.dumps({"events": [document(event)]}).encode()
        headers = {"Content-Type": KIND, **dict(self._hook.headers)}
        if self._hook.secret:
            headers["X-Knarr-Signature"] = "sha256=" + hmac.digest(self._hook.secret.encode(), body, "sha256").hex()
        async with session.post(self._hook.url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status


def document(event: Event) -> dict[str, Any]:
    """An event as receivers of distribution's notifications know it."""
    target: dict[str, Any] = {
        "mediaType": event.media_type,
        "digest": event.digest,
        "size": event.size,
        "length": event.size,
        "repository": event.repository,
    }
    if event.tag:
        target["tag"] = event.tag
    return {
        "id": str(uuid.uuid4()),
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "action": event.action,
        "target": target,
        "actor": {"name": event.caller} if event.caller else {},
    }
