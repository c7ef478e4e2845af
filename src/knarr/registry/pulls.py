"""When manifests were pulled last: gathered in memory, written down now and then, since nobody waits for it."""

from __future__ import annotations

import asyncio
import time

from knarr.registry import tables
from knarr.registry.events import Event
from knarr.registry.parts import Parts
from knarr.registry.rights import PULL

_EVERY_S = 30.0


class Pulls:
    """Listens to pulls of manifests."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._seen: dict[tuple[str, str], int] = {}
        parts.events.listen(self._hear)

    async def note(self) -> None:
        """Write down, until cancelled, what was pulled."""
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                seen, self._seen = self._seen, {}
                if seen:
                    await self._parts.ledger.commit(lambda db, seen=seen: tables.note_pulls(db, seen))  # type: ignore[misc]
        finally:
            if self._seen:
                self._parts.ledger.write(lambda db: tables.note_pulls(db, self._seen))

    def _hear(self, event: Event) -> None:
        if event.action == PULL and event.is_manifest:
            self._seen[event.repository, event.digest] = time.time_ns()
