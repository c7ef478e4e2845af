"""Threads with one owner and one cancellation.

A `Scope` owns every thread a build starts. Leaving its `with` block waits for
all of them; the first failure cancels the others and is raised. Cancellation is
one event: loops call `check()` per chunk, and whoever holds something that
blocks registers how to stop it with `on_cancel`.

    with Scope() as scope:
        futures = [scope.start(fetch, d) for d in descriptors]
        blobs = [future.result() for future in futures]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Generic, ParamSpec, TypeVar

from knarr.errors import Cancelled, KnarrError

# Who waits wakes up this often. A signal that comes between Python's look for signals and the wait itself does not end
# the wait: its handler would run only when the next one comes.
TICK_S = 0.2

P = ParamSpec("P")
T = TypeVar("T")


class Outcome(Generic[T]):
    """The value a started call will have. `result()` waits and gives it, or raises what the call raised."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Whether the call ends within `timeout_s`, well or not."""
        return self._done.wait(timeout_s)

    def result(self) -> T:
        """The value, once there is one.

        Raises:
            BaseException: whatever the call raised (`Cancelled` included).
        """
        while not self._done.wait(TICK_S):
            pass
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set together with _done

    def _settle(self, value: T | None, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()


class Scope:
    """Owner of threads, and the one switch that stops them.

    `limit` bounds how many started calls run at the same time; the others wait
    their turn. A started call must not wait for a later one of the same scope
    when a limit is set.
    """

    def __init__(self, *, limit: int | None = None) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._stoppers: dict[int, Callable[[], object]] = {}
        self._next = 0
        self._threads: set[threading.Thread] = set()
        self._error: BaseException | None = None
        self._turn = threading.BoundedSemaphore(limit) if limit else None

    def __enter__(self) -> Scope:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self.cancel()
        self._join()
        # Our own body may be the first to feel a thread's failure, as a cancellation: the failure is what matters.
        if self._error is not None and (error is None or isinstance(error, Cancelled)):
            raise self._error from None

    def start(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[T]:
        """Run `call` on a thread of this scope. Its failure cancels the scope."""
        return self._launch(call, args, kwargs, fatal=True)

    def attempt(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Outcome[T]:
        """Like `start`, but a failure is only reported through the outcome."""
        return self._launch(call, args, kwargs, fatal=False)

    def _launch(self, call: Callable[..., T], args: object, kwargs: object, *, fatal: bool) -> Outcome[T]:
        self.check()
        outcome: Outcome[T] = Outcome()
        thread = threading.Thread(target=self._run, args=(outcome, call, args, kwargs, fatal), name=call.__name__)
        with self._lock:
            self._threads.add(thread)
            thread.start()
        return outcome

    def _run(
        self,
        outcome: Outcome[T],
        call: Callable[..., T],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        fatal: bool,
    ) -> None:
        try:
            if self._turn is None:
                # No look at the cancellation: somebody may wait for what the call says when it is cancelled.
                value = call(*args, **kwargs)
            else:
                with self._turn:
                    self.check()
                    value = call(*args, **kwargs)
        except BaseException as error:
            outcome._settle(None, error)
            if fatal:
                self._fail(error)
        else:
            outcome._settle(value, None)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._error is None or isinstance(self._error, Cancelled):
                self._error = error
        self.cancel()

    def cancel(self) -> None:
        """Stop everything in this scope. May be called from any thread and more than once."""
        with self._lock:
            first = not self._cancelled.is_set()
            self._cancelled.set()
            stoppers = list(self._stoppers.values()) if first else []
        for stop in stoppers:
            stop()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise `Cancelled` if the scope was cancelled; cheap enough for once per chunk."""
        if self._cancelled.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond cancellation.

        Raises:
            Cancelled: at once, when the scope is cancelled meanwhile.
        """
        if self._cancelled.wait(seconds):
            raise Cancelled

    @contextmanager
    def on_cancel(self, stop: Callable[[], object]) -> Iterator[None]:
        """While in the block, cancellation calls `stop` (which must not raise or block)."""
        with self._lock:
            late = self._cancelled.is_set()
            key, self._next = self._next, self._next + 1
            self._stoppers[key] = stop
        try:
            if late:
                stop()
            yield
        finally:
            with self._lock:
                self._stoppers.pop(key, None)

    def _join(self) -> None:
        while True:
            with self._lock:
                # One that has no ident was never started: an interrupt came between the two lines of `_launch`.
                threads = [t for t in self._threads if t.ident and t is not threading.current_thread()]
            if not threads:
                return
            for thread in threads:
                thread.join(TICK_S)


@contextmanager
def afterwards(call: Callable[[], object]) -> Iterator[None]:
    """Make `call` at the end of the block. Where the block has failed, a failure of `call` does not hide that."""
    try:
        yield
    except BaseException:
        with suppress(KnarrError, OSError):
            call()
        raise
    call()


class Flights:
    """One flight per key within this process: who comes second waits for the first one's result."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[object, Outcome[object]] = {}

    def once(self, key: object, make: Callable[[], T]) -> T:
        """`make()`, or the result of the call under way for `key`.

        A waiter whose leader was cancelled tries again itself: one caller's
        cancellation never fails another.
        """
        while True:
            with self._lock:
                outcome = self._flying.get(key)
                leader = outcome is None
                if outcome is None:
                    outcome = self._flying[key] = Outcome()
            if leader:
                return self._lead(key, outcome, make)
            try:
                return outcome.result()  # type: ignore[return-value]  # keyed by what make() makes
            except Cancelled:
                continue

    def _lead(self, key: object, outcome: Outcome[object], make: Callable[[], T]) -> T:
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._flying[key]
            outcome._settle(None, error)
            raise
        with self._lock:
            del self._flying[key]
        outcome._settle(value, None)
        return value
