"""A process in a container as if it ran here: this terminal or these pipes are its own, until it ends or is left."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # not `signal`: see cli/__init__
import os
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from knarr.containers import wire
from knarr.containers.call import failure
from knarr.errors import KnarrError, UsageError

_CHUNK = 1 << 15
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_ENOUGH = 3  # interrupts after which nobody is waited for any more, as with docker
LEFT = -1  # instead of a status: the process goes on without us


class Attached:
    """The loop between this process's streams and the connection on which a container is watched."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        stdin: bool,
        terminal: bool,
        detach_keys: str = "",
        forward: Callable[[int], object] = lambda number: None,
        ends_stdin: bool = True,
    ) -> None:
        """`forward` is called with signals that this process gets and does not use itself.

        With `ends_stdin` the end of our standard input is the end of the process's.

        Raises:
            UsageError: the detach keys cannot be meant.
        """
        self._connection = connection
        self._ends_stdin = ends_stdin
        self._wants_stdin = stdin
        self._stdin = 0 if stdin and _is_open(0) else -1
        self._terminal = terminal
        self._keys = keys_of(detach_keys) if terminal else b""
        self._typed = b""  # the beginning of the detach keys
        self._forward = forward
        self._interrupts = 0
        self.started = False

    def run(self) -> int:
        """The status with which the process ended, or `LEFT`.

        Raises:
            KnarrError: it could not be started, or its monitor was killed.
        """
        with self._signals() as wake, self._raw():
            if self._wants_stdin and self._stdin < 0:
                self._end_input()
            poll = select.poll()
            for descriptor in (self._connection.fileno(), wake, *([self._stdin] if self._stdin >= 0 else [])):
                poll.register(descriptor, select.POLLIN)
            while True:
                for descriptor, _ in poll.poll():
                    if descriptor == wake:
                        if self._on_signal(wake):
                            return LEFT
                    elif descriptor == self._connection.fileno():
                        ended = self._hear()
                        if ended is not None:
                            return ended
                    elif self._read(poll):
                        return LEFT

    def await_start(self) -> None:
        """Return once the process runs, or has ended.

        Raises:
            KnarrError: it could not be started.
        """
        while not self.started and self._hear() is None:
            pass

    def _end_input(self) -> None:
        if self._ends_stdin:
            self._say(wire.STDIN, b"")

    def _hear(self) -> int | None:
        frame = wire.receive(self._connection)
        if frame is None:
            raise KnarrError("the container's monitor was killed, and the container with it")
        kind, data = frame
        if kind in (wire.STDOUT, wire.STDERR):
            _write(1 if kind == wire.STDOUT else 2, data)
        elif kind == wire.STARTED:
            self.started = True
            self._resize()  # it may have changed while the container came up
        elif kind == wire.FAILED:
            raise failure(data)
        elif kind == wire.ENDED:
            status: int = wire.decoded(data)["status"]
            return status
        return None

    def _read(self, poll: select.poll) -> bool:
        """Pass on what was typed; True: the detach keys were."""
        try:
            data = os.read(self._stdin, _CHUNK)
        except OSError:
            data = b""
        if not data:
            poll.unregister(self._stdin)
            self._end_input()
            return False
        if self._keys:
            passed = self._without_keys(data)
            if passed is None:
                self._say(wire.DETACH, b"")
                return True
            data = passed
        if data:
            self._say(wire.STDIN, data)
        return False

    def _without_keys(self, data: bytes) -> bytes | None:
        """`data` without what may become the detach keys; None: it ends in them."""
        passed = b""
        for byte in data:
            self._typed += bytes([byte])
            while self._typed and not self._keys.startswith(self._typed):
                passed += self._typed[:1]
                self._typed = self._typed[1:]
            if self._typed == self._keys:
                if passed:
                    self._say(wire.STDIN, passed)
                return None
        return passed

    def _say(self, kind: bytes, data: bytes) -> None:
        with suppress(OSError):  # it has ended: the next frame says how
            wire.send(self._connection, kind, data)

    def _on_signal(self, wake: int) -> bool:
        """Act on the signals that came; True: enough of them that we leave."""
        for number in os.read(wake, 64):
            if number == _signal.SIGWINCH:
                self._resize()
                continue
            self._interrupts += number in (_signal.SIGINT, _signal.SIGTERM)
            if self._interrupts >= _ENOUGH:
                print("knarr: the container does not end; it goes on without this command", file=sys.stderr)
                return True
            self._forward(number)
        return False

    def _resize(self) -> None:
        if self._terminal:
            wire_size = size()
            if wire_size is not None:
                self._say(wire.RESIZE, wire.encoded(wire_size))

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """A descriptor that has a byte for each signal that came."""
        wake, ours = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        names = (*_FORWARDED, *(("SIGWINCH",) if self._terminal else ()))
        before = {}
        previous = _signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        for name in names:
            number = getattr(_signal, name)
            before[number] = _signal.signal(number, lambda *_: None)
        try:
            yield wake
        finally:
            for number, handler in before.items():
                _signal.signal(number, handler)
            _signal.set_wakeup_fd(previous)
            os.close(wake)
            os.close(ours)

    @contextmanager
    def _raw(self) -> Iterator[None]:
        """The terminal passes everything on as it is typed, signals included."""
        if not self._terminal or self._stdin < 0 or not os.isatty(self._stdin):
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(self._stdin)
        tty.setraw(self._stdin, termios.TCSADRAIN)  # what was typed ahead is not lost
        try:
            yield
        finally:
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, before)


def size() -> list[int] | None:
    """Rows and columns of this terminal; None: there is none."""
    for descriptor in (0, 1, 2):
        try:
            columns, rows = os.get_terminal_size(descriptor)
        except OSError:
            continue
        return [rows, columns]
    return None


def keys_of(text: str) -> bytes:
    """What is typed for detach keys: `ctrl-p,ctrl-q`, or letters.

    Raises:
        UsageError: that is no key.
    """
    found = b""
    for word in filter(None, text.split(",")):
        letter = word.removeprefix("ctrl-")
        if len(letter) != 1 or not letter.isascii():
            raise UsageError(f"--detach-keys {text}: {word!r} is no key", hint="for example ctrl-p,ctrl-q or ctrl-e,e")
        if word != letter:
            if not ("a" <= letter.lower() <= "z" or letter in "@[\\]^_"):
                raise UsageError(
                    f"--detach-keys {text}: {word!r} is no key", hint="ctrl- with a letter or one of @[\\]^_"
                )
            letter = chr(ord(letter.upper()) & 0x1F)
        found += letter.encode()
    return found


def need_terminal() -> None:
    """Refuse a terminal for the container where there is none here.

    Raises:
        UsageError: standard input is something else.
    """
    if not _is_open(0) or not os.isatty(0):
        raise UsageError("--tty: standard input is not a terminal", hint="leave out --tty (-t); -i alone takes a pipe")


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _write(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]
