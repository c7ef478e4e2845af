"""From a file to a socket, past Python where that is faster.

sendfile costs the least CPU, and on loopback or a fast link the most time: the
kernel hands over pages that nobody has touched, so that one core does all the
copying, the receiver's. A thread that reads and writes small pieces works beside
the receiver instead: 1 GiB in 0.6 of the time, for half as much CPU time again
(docs/decisions/0010-http-server.md). So a blob goes through a thread while one
is free and the client keeps up, and by sendfile otherwise, of which there may be
thousands.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

_PIECE = 32 << 10  # stays in the cache of the core until the receiver has it
_PATIENCE_MS = 100  # a client that takes nothing for so long gives its thread back
_LEAST = 4 << 20  # bytes: less is not worth a thread


class Pouring:
    """The threads of one server."""

    def __init__(self) -> None:
        lanes = max(1, (os.cpu_count() or 1) // 2)
        self.free = threading.BoundedSemaphore(lanes)
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="pouring")

    async def pour(self, transport: asyncio.Transport, file: BinaryIO, first: int, length: int) -> None:
        """Send `length` bytes of the file from `first` on. Whatever was written before goes first.

        Raises:
            ConnectionError: the client has gone.
        """
        loop = asyncio.get_running_loop()
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0.001)
        if transport.is_closing():
            raise ConnectionResetError
        is_plain = transport.get_extra_info("ssl_object") is None
        if is_plain and length >= _LEAST and self.free.acquire(blocking=False):
            sent = await loop.run_in_executor(self._threads, self._lend(transport, file, first, length))
            first, length = first + sent, length - sent
        if length:
            await loop.sendfile(transport, file, first, length)

    def _lend(self, transport: asyncio.Transport, file: BinaryIO, first: int, length: int) -> Callable[[], int]:
        """What a thread is to do. It has the socket and the file for itself, whatever becomes of the request."""
        link = os.dup(transport.get_extra_info("socket").fileno())
        source = os.dup(file.fileno())

        def work() -> int:
            try:
                return _write(transport, link, source, first, length)
            finally:
                os.close(link)
                os.close(source)
                self.free.release()

        return work

    def close(self) -> None:
        self._threads.shutdown()


def _write(transport: asyncio.Transport, link: int, file: int, first: int, length: int) -> int:
    """Write while the client keeps up; returns how much that was."""
    waiting = select.poll()
    waiting.register(link, select.POLLOUT)
    buffer = memoryview(bytearray(_PIECE))
    sent = 0
    while sent < length:
        got = os.preadv(file, [buffer[: min(_PIECE, length - sent)]], first + sent)
        if not got or transport.is_closing():
            raise ConnectionResetError
        done = 0
        while done < got:
            try:
                done += os.write(link, buffer[done:got])
            except BlockingIOError:
                if not waiting.poll(_PATIENCE_MS):
                    return sent + done
        sent += got
    return sent
