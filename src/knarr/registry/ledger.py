"""Who reads and who writes the tables: readers at once, writers together.

One thread writes. What came in while it waited for the disk goes into its next
transaction, so that sixteen clients that push at once wait for one fsync and not
for sixteen. Each change has a savepoint of its own: one that fails takes no other
with it. A change counts, and its caller goes on, only when it is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from knarr.content.database import Database
from knarr.content.store import Store
from knarr.registry import tables

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
_BATCH = 64  # changes in one transaction: some milliseconds


class Ledger:
    """The tables of one store. `read` and `write` from any thread, `commit` from an event loop."""

    def __init__(self, store: Store) -> None:
        self._database = store.database  # the writer's connection
        self._reading = Database(store.root / "meta.db")
        with self._database.write() as db:
            tables.create(db)
        self._queue: SimpleQueue[tuple[Change[Any], Callable[[Any, BaseException | None], object]] | None]
        self._queue = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def read(self, question: Change[T]) -> T:
        """What `question` finds. It sees every change that was committed."""
        with self._reading.read() as db:
            return question(db)

    def write(self, change: Change[T]) -> T:
        """Carry `change` out, alone, and wait for the disk."""
        with self._database.write() as db:
            return change(db)

    async def commit(self, change: Change[T]) -> T:
        """Carry `change` out together with others, and wait for the disk without holding anybody up.

        Raises:
            Exception: what `change` raised; nothing of it counts then.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            if future.done():  # its request was given up
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        def settle_in_loop(value: Any, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(settle, value, error)

        self._start()
        self._queue.put((change, settle_in_loop))
        return await asyncio.shield(future)

    def close(self) -> None:
        """End the writer, when it has written all it was given."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()
        self._reading.close()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ledger")
                self._thread.start()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ended = False
            while len(batch) < _BATCH and not self._queue.empty():
                more = self._queue.get()
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._carry_out(batch)
            if ended:
                return

    def _carry_out(self, batch: list[tuple[Change[Any], Callable[[Any, BaseException | None], object]]]) -> None:
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._database.write() as db:
                outcomes = [_guarded(db, change) for change, _ in batch]
        except Exception as error:  # the disk is full or broken: nothing of the batch is there
            outcomes = [(None, error)] * len(batch)
        for (_, settle), (value, failure) in zip(batch, outcomes, strict=True):
            settle(value, failure)


def _guarded(db: sqlite3.Connection, change: Change[Any]) -> tuple[Any, BaseException | None]:
    db.execute("SAVEPOINT change")
    try:
        value = change(db)
    except sqlite3.Error:
        raise
    except Exception as error:
        db.execute("ROLLBACK TO change")
        db.execute("RELEASE change")
        return None, error
    db.execute("RELEASE change")
    return value, None
