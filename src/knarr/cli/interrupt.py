"""Ctrl-C and SIGTERM cancel a scope instead of breaking off whatever the main thread is doing.

An exception raised by a signal handler can come between any two lines, also in the
middle of cleaning up. Here the first signal only cancels; the work then ends in
order and `interrupts` raises. A second signal, or a main thread that has not ended
`GRACE_S` seconds later (it waits for something that no scope can stop, such as a reader
of standard output), is broken off after all.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not `signal`: see cli/__init__
import _thread
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from knarr.cli.failure import Terminated
from knarr.scope import Scope

GRACE_S = 2.0


@contextmanager
def interrupts(scope: Scope) -> Iterator[None]:
    """While in the block, SIGINT and SIGTERM cancel `scope`.

    Raises:
        KeyboardInterrupt: there was a signal (`Terminated`, if it was SIGTERM), whatever else the block came to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # whoever runs us there handles signals
        return
    received: list[int] = []
    ended = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            raise _exception(received[0])
        # Not here: the lock that cancelling takes may be held by the very line that the signal has interrupted.
        # And not by `threading`, for the same reason.
        _thread.start_new_thread(_cancel, (scope, ended, number))

    before = {number: _signal.signal(number, on_signal) for number in (_signal.SIGINT, _signal.SIGTERM)}
    try:
        yield
    except BaseException:
        if received:
            raise _exception(received[0]) from None
        raise
    finally:
        ended.set()
        for number, handler in before.items():
            _signal.signal(number, handler)
    if received:
        raise _exception(received[0])


def _cancel(scope: Scope, ended: threading.Event, number: int) -> None:
    scope.cancel()
    deadline = time.monotonic() + GRACE_S
    while not ended.is_set():
        if time.monotonic() > deadline:
            _signal.pthread_kill(threading.main_thread().ident or 0, number)
            return
        time.sleep(0.02)


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == _signal.SIGTERM else KeyboardInterrupt()
