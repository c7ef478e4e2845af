"""A blob as a stream that goes on where it broke off.

When the connection is cut or hangs, the rest is asked for with a Range from the
byte reached; whoever reads sees one stream. The digest is checked over the
whole by `streams.VerifiedReader`, so a part that was changed meanwhile shows.
"""

from __future__ import annotations

from collections.abc import Callable

from knarr.errors import RegistryError
from knarr.remote import failure
from knarr.remote.transport import Transport
from knarr.remote.url import Origin
from knarr.remote.wire import Answer, Malformed
from knarr.spec.digest import Digest
from knarr.streams import CHUNK, VerifiedReader

Open = Callable[[int], tuple[Origin, Answer]]
"""Opens the content from a byte on: who answers, and a 200 with all of it or a 206 with the rest."""


class RewindableReader(VerifiedReader):
    """Content of a registry that can be read from anywhere; verified when it is read from its start to its end.

    Who jumps into the middle sends the rest to a place that checks the whole: an
    upload that goes on. Going back to the start begins the verification anew.
    """

    def __init__(self, source: ResumingReader, digest: Digest, size: int, *, what: str = "", hint: str = "") -> None:
        super().__init__(source, digest, size, what=what, hint=hint)
        self._remote = source
        self._told = (size, what, hint)
        self._reader: VerifiedReader | ResumingReader | None = None  # once it was moved

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._remote.offset

    def seek(self, offset: int) -> int:
        if offset != self._remote.offset:
            self._remote.move(offset)
            size, what, hint = self._told
            fresh = VerifiedReader(self._remote, self.digest, size, what=what, hint=hint)
            self._reader = self._remote if offset else fresh
        return offset

    def read(self, size: int = -1, /) -> bytes:
        return super().read(size) if self._reader is None else self._reader.read(size)


class ResumingReader:
    """The content that `reopen` gives, as a `Readable`. Close it."""

    def __init__(self, transport: Transport, what: str, reopen: Open) -> None:
        self._transport = transport
        self._what = what
        self._reopen = reopen
        self._offset = 0
        self._failures = 0  # since bytes moved last
        self._origin, self._answer = reopen(0)

    def read(self, size: int = -1, /) -> bytes:
        """Raises: RegistryError (the budget is used up), Cancelled."""
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        while True:
            self._transport.scope.check()
            try:
                data = self._answer.read(size)
            except (OSError, Malformed) as error:
                self._recover(error)
                continue
            if data:
                self._offset += len(data)
                self._failures = 0
            return data

    @property
    def offset(self) -> int:
        """Where the next read gives bytes from."""
        return self._offset

    def move(self, offset: int) -> None:
        """Let the next read give bytes from `offset` on.

        Raises:
            RegistryError, NotFound, Cancelled
        """
        self._answer.close()
        self._offset, self._failures = offset, 0
        self._origin, self._answer = self._reopen(offset)
        if offset:
            self._catch_up()

    def abort(self) -> None:
        """Make a read that blocks fail now; from any thread."""
        self._answer.abort()

    def close(self) -> None:
        self._answer.close()

    def _recover(self, error: OSError | Malformed) -> None:
        """Open again at the byte reached, after a pause."""
        transport = self._transport
        transport.scope.check()
        self._answer.close()
        self._failures += 1
        timeout_s = transport.settings.read_timeout_s
        problem = failure.from_os_error(error, self._origin, self._what, timeout_s=timeout_s)
        budget = transport.settings.retry
        if not problem.temporary or self._failures >= budget.tries(budget.attempts, error):
            raise problem from error
        transport.scope.sleep(transport.settings.retry.wait(self._failures))
        self._origin, self._answer = self._reopen(self._offset)
        if self._offset:
            self._catch_up()

    def _catch_up(self) -> None:
        """Make the next byte of the new answer the one at the offset reached."""
        if self._answer.status == 206:
            start = _range_start(self._answer.headers.get("content-range"))
            if start != self._offset:
                self._answer.close()
                raise RegistryError(
                    f"{self._what}: {self._origin.netloc} was asked to go on at byte {self._offset}, went on at {start}"
                )
            return
        left = self._offset  # it knows no ranges and sends all of it again
        try:
            while left and (data := self._answer.read(min(left, CHUNK))):
                self._transport.scope.check()
                left -= len(data)
        except (OSError, Malformed) as error:
            self._recover(error)


def _range_start(text: str) -> int:
    """The first byte of `bytes 500-1499/2048`, or -1."""
    first = text.removeprefix("bytes").strip().partition("-")[0]
    return int(first) if first.isascii() and first.isdigit() else -1
