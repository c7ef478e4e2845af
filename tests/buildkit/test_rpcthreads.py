"""Threads for calls: none waits for another, and the next call finds one that is free."""

from __future__ import annotations

import threading
import time

import pytest

from knarr.buildkit.rpcthreads import RpcThreads
from knarr.errors import Cancelled
from knarr.scope import Scope


def test_calls_that_last_do_not_keep_others_waiting() -> None:
    with Scope() as scope:
        threads, release = RpcThreads(scope), threading.Event()
        lasting = [threads.submit(release.wait, 30) for _ in range(40)]
        assert threads.submit(lambda: "done").result(10) == "done"
        release.set()
        assert all(call.result(10) for call in lasting)
        scope.cancel()


def test_a_thread_is_used_again() -> None:
    with Scope() as scope:
        threads = RpcThreads(scope)
        seen = set()
        for _ in range(20):
            seen.add(threads.submit(threading.get_ident).result(10))
            time.sleep(0.01)  # the thread has told the result before it is free
        assert len(seen) < 20
        scope.cancel()


def test_a_failure_is_the_call_s_and_not_the_thread_s() -> None:
    def fail() -> None:
        raise ValueError("no")

    with Scope() as scope:
        threads = RpcThreads(scope)
        with pytest.raises(ValueError, match="no"):
            threads.submit(fail).result(10)
        assert threads.submit(lambda: 1).result(10) == 1
        scope.cancel()


def test_threads_that_wait_end_when_they_are_closed() -> None:
    begun = time.monotonic()
    with Scope() as scope:
        threads = RpcThreads(scope)
        for call in [threads.submit(time.sleep, 0.05) for _ in range(10)]:
            call.result(10)
        threads.close()
        assert threads.submit(lambda: "late").result(10) == "late"  # of a call that was under way
    assert time.monotonic() - begun < 4  # less than an idle thread waits by itself


def test_threads_that_wait_end_with_their_scope() -> None:
    before = threading.active_count()
    with Scope() as scope:
        threads = RpcThreads(scope)
        for call in [threads.submit(time.sleep, 0.05) for _ in range(10)]:
            call.result(10)
        begun = time.monotonic()
        scope.cancel()
    assert time.monotonic() - begun < 4  # less than an idle thread waits by itself
    assert threading.active_count() == before
    with pytest.raises(Cancelled):
        threads.submit(lambda: 1)
