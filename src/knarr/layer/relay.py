"""Hand chunks from one thread to the next, so that stages of a stream run at the same time.

`ReadAhead` lets a source run ahead of its reader, `WriteBehind` lets a target
lag behind its writer, each by at most a few chunks. Both start their thread only
when a second chunk shows up: a small layer costs no thread at all. Leaving the
`with` block ends the thread, whatever happened.

    with WriteBehind(hasher) as hashing:
        for data in chunks(stream):
            hashing.write(data)
    hasher.digest                       # complete here
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Generic, TypeVar

from knarr.errors import Cancelled
from knarr.scope import Scope
from knarr.streams import CHUNK, Readable, Writable

DEPTH = 4  # chunks in flight; two would do if chunks took equally long, four even out slow ones

T = TypeVar("T")


class Pipe(Generic[T]):
    """A bounded queue with an end, and with a way out for both sides.

    Invariant: after `stop` nobody blocks on the pipe any more. All state
    changes under one condition; items are made and used outside it.
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._ended = False
        self._failure: BaseException | None = None  # how it ended, for who takes
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Append `item`, waiting for room.

        Raises:
            BaseException: what `stop` was given, once it was called.
        """
        with self._changed:
            while len(self._items) >= self._depth and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> T | None:
        """The oldest item, waiting for one; None at the end.

        Raises:
            BaseException: what `stop` was given, once it was called, or what `end` was given, at the end.
        """
        with self._changed:
            while not self._items and not self._ended and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._items:
                if self._failure is not None:
                    raise self._failure
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def end(self, failure: BaseException | None = None) -> None:
        """No more items will come; who takes gets those that are left, and then `failure` if there is one."""
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        """Fail both sides with `error`; the first one counts."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._items.clear()
            self._changed.notify_all()


class WriteBehind:
    """A writer whose writes to `target` happen in order on a thread of its own.

    What `target.write` raises comes out of a later `write` or of leaving the block.
    """

    def __init__(self, target: Writable, *, depth: int = DEPTH) -> None:
        self._target = target
        self._pipe: Pipe[bytes] = Pipe(depth)
        self._scope = Scope()
        self._first: bytes | None = None
        self._started = False

    def __enter__(self) -> WriteBehind:
        return self

    def write(self, data: bytes, /) -> int:
        if self._started:
            self._pipe.put(data)
        elif self._first is None:
            self._first = data
        else:
            self._started = True
            self._pipe.put(self._first)
            self._scope.start(self._drain)
            self._pipe.put(data)
        return len(data)

    def _drain(self) -> None:
        try:
            while (data := self._pipe.take()) is not None:
                self._target.write(data)
        except BaseException as error:
            self._pipe.stop(error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if error is not None:
            self._pipe.stop(Cancelled())
        elif not self._started and self._first is not None:
            self._target.write(self._first)
        self._pipe.end()
        self._scope.__exit__(kind, error, tb)


class ReadAhead:
    """A reader for which a thread reads `source` in advance, up to `depth` chunks.

    The source must not be used by others until the block is left. What
    `source.read` raises comes out of `read`, in its place in the stream.
    """

    def __init__(self, source: Readable, *, depth: int = DEPTH) -> None:
        self._source = source
        self._pipe: Pipe[bytes] = Pipe(depth)
        self._scope = Scope()
        self._chunk = b""
        self._at = 0
        self._reads = 0
        self._ended = False

    def __enter__(self) -> ReadAhead:
        return self

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if self._at == len(self._chunk) and not self._ended:
            self._chunk, self._at = self._next(), 0
            self._ended = not self._chunk
        at, self._at = self._at, min(self._at + size, len(self._chunk))
        if at == 0 and self._at == len(self._chunk):
            return self._chunk
        return self._chunk[at : self._at]

    def _next(self) -> bytes:
        self._reads += 1
        if self._reads == 1:
            return self._source.read(CHUNK)
        if self._reads == 2:
            self._scope.attempt(self._fill)
        return self._pipe.take() or b""

    def _fill(self) -> None:
        try:
            while data := self._source.read(CHUNK):
                self._pipe.put(data)
        except BaseException as error:
            self._pipe.end(error)
            raise
        self._pipe.end()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._pipe.stop(Cancelled())
        self._scope.__exit__(kind, error, tb)
