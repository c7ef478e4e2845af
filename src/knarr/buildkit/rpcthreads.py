"""Threads for calls: one each, for as long as it lasts, owned by a scope.

A call of a client's may last as long as its build; a pool of fixed size would let
twenty builds starve the next one's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from knarr.scope import Scope

T = TypeVar("T")


class RpcThreads(ThreadPoolExecutor):
    """What `grpc.server` is given to run calls on. gRPC wants this class, and calls `submit` alone."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(max_workers=1)
        self._scope = scope

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        self._scope.attempt(_settle, future, call, args, kwargs)
        return future


def _settle(future: Future[T], call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    future.set_running_or_notify_cancel()
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
