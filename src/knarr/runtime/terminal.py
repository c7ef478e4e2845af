"""A terminal for a process in a container: what the runtime is given, and our end of it.

An OCI runtime that stays in the foreground makes the container's own terminal and
passes everything on from the one it is given. How large it is, `live.Process` says.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from knarr.runtime.process import Output, Stdio
from knarr.scope import Scope

_CHUNK = 1 << 14


@contextmanager
def opened(output: Output, scope: Scope, *, source: int | None = None) -> Iterator[Stdio]:
    """The other end of a terminal: what is written on it goes to `output`, what comes from `source` is typed on it.

    Leaving waits until all output has gone. The threads are those of `scope`.
    """
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # the container's own terminal does the work
    stop, stopping = os.pipe()
    with ExitStack() as stack:
        for descriptor in (ours, stop):
            stack.callback(os.close, descriptor)
        threads = [scope.attempt(_read, ours, output)]
        if source is not None:
            threads.append(scope.attempt(_feed, ours, source, stop))
        try:
            yield Stdio(theirs, theirs, theirs)
        finally:
            os.close(theirs)
            os.close(stopping)
            for thread in threads:
                thread.result()


def resize(stdio: Stdio, size: tuple[int, int]) -> None:
    """Let the terminal that `opened` gave be that large (rows, columns); before the process starts."""
    if stdio.stdin is not None and all(size):
        fcntl.ioctl(stdio.stdin, termios.TIOCSWINSZ, struct.pack("HHHH", *(part & 0xFFFF for part in size), 0, 0))


def _read(ours: int, output: Output) -> None:
    with suppress(OSError):  # EIO: the other end was closed
        while data := os.read(ours, _CHUNK):
            output(1, data)


def _feed(ours: int, source: int, stop: int) -> None:
    poll = select.poll()
    poll.register(source, select.POLLIN)
    poll.register(stop, select.POLLIN)
    with suppress(OSError):
        while all(descriptor != stop for descriptor, _ in poll.poll()):
            data = os.read(source, _CHUNK)
            if not data:
                return
            while data:
                data = data[os.write(ours, data) :]
