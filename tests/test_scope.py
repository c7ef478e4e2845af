"""Which error leaves a scope."""

from __future__ import annotations

import threading

import pytest

from knarr.errors import Cancelled, NotFound
from knarr.scope import Scope


def fail() -> None:
    raise NotFound("gone")


def feel_a_failure() -> None:
    with Scope() as scope:
        sleeping = scope.attempt(scope.sleep, 60)
        scope.start(fail)
        sleeping.result()  # Cancelled, because of the failure


def test_a_failure_comes_out_even_if_the_body_felt_its_cancellation_first() -> None:
    with pytest.raises(NotFound, match="gone"):
        feel_a_failure()


def test_an_error_of_the_body_stays_and_stops_the_threads() -> None:
    stopped = threading.Event()

    def wait(scope: Scope) -> None:
        try:
            scope.sleep(60)
        finally:
            stopped.set()

    def body() -> None:
        with Scope() as scope:
            scope.start(wait, scope)
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        body()
    assert stopped.is_set()


def test_cancelling_without_a_failure_is_a_cancellation() -> None:
    def body() -> None:
        with Scope() as scope:
            scope.cancel()
            scope.check()

    with pytest.raises(Cancelled):
        body()


def test_who_was_let_in_is_called_although_the_scope_is_cancelled_at_once() -> None:
    cancelled = threading.Event()
    called: list[int] = []
    threading.setprofile(lambda *_: cancelled.wait(5))  # holds the new thread back before its first line
    try:
        with Scope() as scope:
            scope.attempt(called.append, 1)
            scope.cancel()
            cancelled.set()
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]  # the stub lacks None
    assert called == [1]
