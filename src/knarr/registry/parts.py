"""What the handlers of one server share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from knarr.content.sharing import Sharing
from knarr.content.store import Store
from knarr.registry import tables
from knarr.registry.events import Events
from knarr.registry.ledger import Ledger
from knarr.registry.pouring import Pouring
from knarr.registry.refusal import Refusal
from knarr.registry.settings import ServerSettings
from knarr.registry.turns import Turns
from knarr.registry.uploads import Uploads
from knarr.spec.digest import Digest

T = TypeVar("T")
_THREADS = 16  # that wait for the disk; as many clients are served at full speed


class Parts:
    """The store, its tables and its uploads, with the threads that wait for the disk."""

    def __init__(self, store: Store, settings: ServerSettings) -> None:
        self.store = store
        self.settings = settings
        self.ledger = Ledger(store)
        self.uploads = Uploads(store)
        self.pouring = Pouring()
        self.sharing = Sharing(store.root)
        self.turns = Turns()
        self.events = Events()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")

    async def blocking(self, call: Callable[..., T], *words: object) -> T:
        """Run `call` on a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *words)

    def gauges(self) -> dict[str, float]:
        """Figures for the metrics."""
        repositories, manifests, tags, blob_bytes = self.ledger.read(tables.totals)
        return {
            "repositories": repositories,
            "manifests": manifests,
            "tags": tags,
            "blob_bytes": blob_bytes,
            "uploads_open": self.uploads.count(),
        }

    def see(self, digest: Digest) -> None:
        """Look, in the transaction that enters a blob, whether its bytes are still there.

        Raises:
            Refusal: a collection came in between, which must have been told to spare nothing.
        """
        if not os.path.exists(self.store.path(digest)):
            raise Refusal(503, "UNAVAILABLE", "the blob was collected meanwhile: send it again")

    def close(self) -> None:
        """Wait for what is being written, and close the tables."""
        self._threads.shutdown()
        self.pouring.close()
        self.ledger.close()
