"""Threads for calls: as many as there are calls, each used again for a later one, all owned by a scope.

A call of a client's may last as long as its build; a pool of fixed size would let
twenty builds starve the next one's. A build makes a dozen short calls, though, and
a thread for each of them takes longer to start than the call takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from knarr.scope import Scope

T = TypeVar("T")
_Work = Callable[[], None]
_IDLE_S = 5.0  # that a thread waits for its next call


class RpcThreads(ThreadPoolExecutor):
    """What `grpc.server` is given to run calls on. gRPC wants this class, and calls `submit` alone.

    `close` it when the server has stopped, unless the scope is cancelled: a thread that
    waits for its next call ends at once then.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__(max_workers=1)
        self._scope = scope
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Work | None]] = []  # where threads wait that have nothing to do

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        self._scope.check()
        future: Future[T] = Future()
        work = partial(_settle, future, call, args, kwargs)
        with self._lock:
            waiting = self._idle.pop() if self._idle else None
        if waiting is not None:
            waiting.put(work)
        else:
            self._scope.attempt(self._serve, work)
        return future

    def close(self) -> None:
        """Keep no thread waiting any more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for waiting in idle:
            waiting.put(None)

    def _serve(self, work: _Work | None) -> None:
        """Carry out one call after the other, until none comes for a while."""
        mine: SimpleQueue[_Work | None] = SimpleQueue()
        with self._scope.on_cancel(self.close):
            while work is not None:
                work()
                work = None  # what it answered is not kept while nothing comes
                work = self._next(mine)

    def _next(self, mine: SimpleQueue[_Work | None]) -> _Work | None:
        with self._lock:
            if self._closed:
                return None
            self._idle.append(mine)
        try:
            return mine.get(timeout=_IDLE_S)
        except Empty:
            with self._lock:
                if mine in self._idle:
                    self._idle.remove(mine)
                    return None
        return mine.get()  # it was promised a call, or told the end, at the same moment


def _settle(future: Future[T], call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    future.set_running_or_notify_cancel()
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
