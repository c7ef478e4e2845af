"""Read a blob while it is still being written, so that a layer is unpacked as it comes in.

One thread writes the blob into the store and tells how far it is; another reads
the same file behind it. The reader's end of the stream comes only after the blob
was verified and committed: who has read to the end has read the right bytes.
The writer is never held up, and nothing is kept but the file.

    growth = Growth()
    scope.attempt(lambda: fetch(descriptor, growth))       # store.push(…, growth=growth), then growth.end()
    following = growth.follow()
    with following or store.open(descriptor) as stream:
        unpack(stream)
"""

from __future__ import annotations

import threading
from io import FileIO
from types import TracebackType

from knarr.streams import CHUNK


class Restarted(Exception):
    """What was read so far was given up, and the blob is written once more from its start."""


class Growth:
    """How far a blob has come. Its writer calls `begin`, `advance` and, in any case, `end`; readers the rest."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._path = ""
        self._attempt = 0
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None

    def begin(self, path: str) -> None:
        """The blob is written to the file at `path`, which is empty; anything written before is void."""
        with self._changed:
            self._path, self._size = path, 0
            self._attempt += 1
            self._changed.notify_all()

    def advance(self, size: int) -> None:
        """The file has `size` bytes."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def end(self, failure: BaseException | None = None) -> None:
        """The blob is in the store, whole and verified; or nobody waits for it any more, because of `failure`.

        The first end counts. A reader's own cancellation may bring one before the writer does.
        """
        with self._changed:
            if not self._ended:
                self._ended, self._failure = True, failure
            self._changed.notify_all()

    def follow(self) -> Following | None:
        """The blob as a stream, as soon as it is being written; None: it is in the store already.

        Raises:
            BaseException: what `end` was given.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._path or self._ended)
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return None
            try:
                return Following(self, FileIO(self._path), self._attempt)
            except FileNotFoundError:  # just committed, or given up
                self._changed.wait_for(lambda: self._ended)
            if self._failure is not None:
                raise self._failure
            return None

    def wait(self, at: int, attempt: int) -> int:
        """How many bytes there are past `at`, once there are any; 0 at the end of a verified blob.

        Raises:
            Restarted: the writer began again since `attempt`.
            BaseException: what `end` was given.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._size > at or self._ended or self._attempt != attempt)
            if self._failure is not None:
                raise self._failure
            if self._attempt != attempt:
                raise Restarted
            return self._size - at

    def outcome(self, attempt: int) -> None:
        """Wait for the end, and raise what `wait` would."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
            if self._failure is not None:
                raise self._failure
            if self._attempt != attempt:
                raise Restarted


class Following:
    """The blob as a stream that waits for its writer. Leaving the `with` block closes the file.

    Leaving waits for the writer. If the block failed, because what was read makes no
    sense, the writer's own failure is raised instead, should it come to one: wrong
    bytes are its to name.

    Raises (from `read` and on leaving):
        Restarted: begin again, with nothing of what was read.
        BaseException: why the writer failed.
    """

    def __init__(self, growth: Growth, file: FileIO, attempt: int) -> None:
        self._growth, self._file, self._attempt = growth, file, attempt
        self._at = 0

    def __enter__(self) -> Following:
        return self

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        data = self._file.read(min(size, self._growth.wait(self._at, self._attempt)))
        self._at += len(data)
        return data

    def abandon(self) -> None:
        """Close the file, and wait for nobody. Who has read to the end has read the right bytes all the same."""
        self._file.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._file.close()
        if error is None or (isinstance(error, Exception) and not isinstance(error, Restarted)):
            self._growth.outcome(self._attempt)
