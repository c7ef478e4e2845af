"""The sink of a build on the command line: events from any thread in, bytes written by one thread of its own.

A slow terminal does not slow the build: `send` only puts the event in a queue.
Only when more than `_MOST_BYTES` of output wait does it wait, too, because no
line of output is dropped and memory is bounded.

    with Feed(Plain(), sys.stderr.buffer) as feed:
        engine.solve(request, session, feed)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Protocol

from knarr.progress import Event, Log
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.cli.progress.steps import Steps

_MOST_BYTES = 16 << 20


class Renderer(Protocol):
    """Events and a clock in, bytes out. Pure: it is given everything and touches nothing."""

    for_people: bool  # whether warnings and a summary may follow

    interval_s: float  # between two writes, so that many events make one
    idle_s: float  # how long it may be left alone when nothing happens
    steps: Steps

    def render(self, events: Iterable[Event], now_ns: int) -> bytes: ...

    def close(self, now_ns: int) -> bytes: ...


class Feed:
    """Implements `progress.Sink`. Leaving the block prints what still waits."""

    def __init__(self, renderer: Renderer, out: BinaryIO) -> None:
        self._renderer = renderer
        self._out: BinaryIO | None = out
        self._events: SimpleQueue[Event | None] = SimpleQueue()
        self._closing = threading.Event()
        self._room = threading.Condition()
        self._bytes = 0
        self._scope = Scope()

    def __enter__(self) -> Feed:
        self._scope.__enter__()
        self._scope.start(self._run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._events.put(None)
        self._closing.set()
        self._scope.__exit__(None, None, None)

    def send(self, event: Event) -> None:
        """Take `event`; from any thread."""
        if isinstance(event, Log):
            with self._room:
                while self._bytes > _MOST_BYTES:
                    self._room.wait()
                self._bytes += len(event.data)
        self._events.put(event)

    def _run(self) -> None:
        ended = False
        while not ended:
            events, ended = self._gather()
            # A second signal may break the main thread off before it has said that this is the end.
            ended = ended or not threading.main_thread().is_alive()
            now = time.time_ns()
            self._write(self._renderer.render(events, now))
            with self._room:
                self._bytes -= sum(len(event.data) for event in events if isinstance(event, Log))
                self._room.notify_all()
            if not ended:
                self._closing.wait(self._renderer.interval_s)  # let events gather, but not beyond the end
        self._write(self._renderer.close(time.time_ns()))

    def _gather(self) -> tuple[list[Event], bool]:
        """What has come, after waiting for something for at most `idle_s`; and whether that was all."""
        events: list[Event] = []
        try:
            event = self._events.get(timeout=self._renderer.idle_s)
            while event is not None:
                events.append(event)
                if len(events) >= 10_000:
                    return events, False
                event = self._events.get_nowait()
        except Empty:
            return events, False
        return events, True

    def _write(self, data: bytes) -> None:
        if not data or self._out is None:
            return
        try:
            self._out.write(data)
            self._out.flush()
        except (BrokenPipeError, OSError):
            self._out = None  # nobody looks any more; the build goes on
