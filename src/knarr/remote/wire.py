"""HTTP/1.1 over one socket: a request out, an answer in, both streamed.

Only what a client of a registry needs: bodies framed by Content-Length, by
chunks or by the end of the connection; answers that come before the request is
sent whole; keep-alive. Why not `http.client`: docs/decisions/0003-http-client.md.

Spec: RFC 9112 (framing: section 6.3), RFC 9110 (interim answers: 15.2).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BufferedReader
from typing import Protocol, cast

_MAX_LINE = 64 << 10  # a Location with a signed query, or a token in a header, reaches 16 KiB
_MAX_HEADERS = 256
_PIECE = 256 << 10  # one send or read: a timeout of 60 s then allows links down to 4 KiB/s
_DRAIN = 64 << 10  # an unread rest up to this size is read, to keep the connection
_NO_BODY = frozenset((204, 304))

HeaderList = Iterable[tuple[str, str]]


class Malformed(Exception):
    """The far end does not speak HTTP/1.1."""


class Cut(ConnectionError):
    """The connection ended before the answer did. `started` tells whether any of the answer had come."""

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class Body(Protocol):
    """A request body that can be sent more than once."""

    @property
    def length(self) -> int: ...

    def pieces(self) -> Iterator[bytes]:
        """The bytes from the start, in pieces that together have `length`."""
        ...


class Headers:
    """The fields of an answer, by lower-case name; a name may come more than once."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        return next((value for key, value in self._fields if key == name), default)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._fields if key == name]


class Answer:
    """Status, headers, and the body as a `Readable`. Close it: `with`, or `close()`."""

    def __init__(
        self, stream: BufferedReader, status: int, reason: str, headers: Headers, *, bodiless: bool, keep: bool
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        # Set by who lent the connection; without them the answer owns nothing.
        self.on_close: Callable[[], object] | None = None
        self.abort: Callable[[], object] = lambda: None  # makes a read that blocks fail now; from any thread
        self._stream = stream
        self._more = not bodiless and "chunked" in headers.get("transfer-encoding").lower()
        self._failure: OSError | None = None  # met behind bytes that were handed on
        self._in_chunks = False  # a chunk was read, and its line end is still to come
        # Bytes to come before the next chunk or the end; None: until the connection ends.
        self._left: int | None = 0 if bodiless or self._more else _length(headers)
        self._keep = keep and self._left is not None

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def length(self) -> int:
        """What Content-Length says (for HEAD: of the body that GET would give), or -1."""
        text = self.headers.get("content-length")
        return int(text) if text.isascii() and text.isdigit() else -1

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request: the body was read to its end."""
        return self._keep and self._left == 0 and not self._more

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes; empty at the end.

        Raises:
            Cut: the connection ended too early.
            TimeoutError: nothing came in time.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_PIECE), b""))
        if self._left == 0 and self._more:
            self._next_chunk()
        if self._left == 0 or size == 0:
            return b""
        data = self._gather(min(size, _PIECE) if self._left is None else min(size, _PIECE, self._left))
        if self._left is not None:
            if not data:
                raise Cut("the connection ended in the middle of an answer", started=True)
            self._left -= len(data)
        return data

    def close(self) -> None:
        """Give the connection back if it can be used again (a short rest is read first), else end it."""
        done, self.on_close = self.on_close, None
        if done is None:
            return
        try:
            left = _DRAIN if self._keep and (self._left or 0) <= _DRAIN else 0
            while left > 0 and not self.reusable and (data := self.read(left)):
                left -= len(data)
        except (OSError, Malformed):
            self._keep = False
        done()

    def _gather(self, wanted: int) -> bytes:
        """`wanted` bytes, fewer at the end. What came before a failure is given first: a resumed read goes on there."""
        if self._failure is not None:
            raise self._failure
        parts: list[bytes] = []
        while wanted > 0:
            try:
                data = self._stream.read1(wanted)
            except OSError as error:
                self._failure = error
                if not parts:
                    raise
                break
            if not data:
                break
            parts.append(data)
            wanted -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _next_chunk(self) -> None:
        if self._in_chunks:
            _line(self._stream, started=True)
        self._in_chunks = True
        text = _line(self._stream, started=True).partition(";")[0].strip()
        try:
            self._left = int(text, 16)
        except ValueError:
            raise Malformed(f"{text[:20]!r} is not the size of a chunk") from None
        if self._left == 0:
            while _line(self._stream, started=True):  # trailers
                pass
            self._more = False


class Connection:
    """One socket that carries one request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._stream = cast(BufferedReader, sock.makefile("rb", buffering=64 << 10))
        self.used = False  # a request was sent before: the far end may have closed it meanwhile

    def abort(self) -> None:
        """Make whoever blocks in this connection fail now; from any thread, any number of times."""
        try:
            # Not SSLSocket.shutdown: it takes the TLS state away under the reading thread.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._sock.close()

    def is_stale(self) -> bool:
        """Whether something waits to be read although nothing was asked: the far end has closed."""
        import select

        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def exchange(
        self, method: str, target: str, headers: HeaderList, body: bytes | Body | None = None, *, timeout_s: float
    ) -> Answer:
        """Send one request and read the head of its answer.

        Raises:
            Cut, OSError: the connection broke.
            TimeoutError: neither end moved for `timeout_s`.
            Malformed: that is not HTTP.
        """
        self._sock.settimeout(timeout_s)
        self.used = True
        complete = self._send(_head(method, target, headers, body), body)
        status, reason, fields, old = self._receive()
        keep = complete and not old and "close" not in fields.get("connection").lower()
        bodiless = method == "HEAD" or status in _NO_BODY
        return Answer(self._stream, status, reason, fields, bodiless=bodiless, keep=keep)

    def send_heads(self, targets: Sequence[str], headers: HeaderList, *, timeout_s: float) -> None:
        """Ask with HEAD for all `targets` at once; `next_head` gives the answers in their order.

        Raises:
            OSError: the connection broke.
        """
        self._sock.settimeout(timeout_s)
        self.used = True
        self._sock.sendall(b"".join(_head("HEAD", target, headers, None) for target in targets))

    def next_head(self) -> tuple[int, Headers, bool]:
        """Status and fields of the next answer to `send_heads`, and whether another one can follow.

        Raises:
            OSError, Malformed: as `exchange`.
        """
        status, _, fields, old = self._receive()
        return status, fields, not old and "close" not in fields.get("connection").lower()

    def _send(self, head: bytes, body: bytes | Body | None) -> bool:
        """Whether all of it went out.

        A refusal often comes while we still send, and the connection ends with it:
        the answer, which is then read, says more than the broken pipe.
        """
        for piece in _pieces(head, body):
            view = memoryview(piece)
            for at in range(0, len(view), _PIECE):
                try:
                    self._sock.sendall(view[at : at + _PIECE])
                except TimeoutError:
                    raise
                except OSError:
                    return False
        return True

    def _receive(self) -> tuple[int, str, Headers, bool]:
        while True:
            line = _line(self._stream, started=False)
            version, _, rest = line.partition(" ")
            code, _, reason = rest.partition(" ")
            if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdigit():
                raise Malformed(f"{line[:60]!r} is not the start of an HTTP answer")
            fields = _fields(self._stream)
            if code[0] != "1":
                return int(code), reason.strip(), fields, version == "HTTP/1.0"


def _head(method: str, target: str, headers: HeaderList, body: bytes | Body | None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body) if isinstance(body, bytes) else body.length}")
    elif method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    whole = "\r\n".join((*lines, "", ""))
    if whole.count("\n") != len(lines) + 1 or whole.count("\r") != len(lines) + 1:
        raise ValueError("a line end in a header")
    return whole.encode("latin-1")


def _pieces(head: bytes, body: bytes | Body | None) -> Iterator[bytes]:
    if body is None or isinstance(body, bytes):
        yield head + (body or b"")
    else:
        yield head
        yield from body.pieces()


def _line(stream: BufferedReader, *, started: bool) -> str:
    line = stream.readline(_MAX_LINE + 1)
    if not line.endswith(b"\n"):
        raise _incomplete(line, started=started)
    return line.decode("latin-1").rstrip("\r\n")


def _incomplete(line: bytes, *, started: bool) -> Exception:
    """Why a line has no end."""
    if len(line) > _MAX_LINE:
        return Malformed(f"a line of an answer is longer than {_MAX_LINE} bytes")
    return Cut("the connection ended before an answer came", started=started or bool(line))


def _fields(stream: BufferedReader) -> Headers:
    fields: list[tuple[str, str]] = []
    while True:
        raw = stream.readline(_MAX_LINE + 1)  # `_line`, which says what is wrong, costs as much again
        if raw in (b"\r\n", b"\n"):
            return Headers(fields)
        if not raw.endswith(b"\n"):
            raise _incomplete(raw, started=True)
        name, colon, value = raw.decode("latin-1").partition(":")
        if not colon or len(fields) == _MAX_HEADERS:
            raise Malformed(f"{raw[:60].decode('latin-1')!r} is not a header, or there are too many")
        fields.append((name.strip().lower(), value.strip()))


def _length(headers: Headers) -> int | None:
    lengths = set(headers.all("content-length"))
    if not lengths:
        return None
    text = lengths.pop()
    if lengths or not (text.isascii() and text.isdigit()):
        raise Malformed(f"Content-Length {text[:30]!r} is not one number")
    return int(text)
