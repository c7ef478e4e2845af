"""Who is connected to a monitor, and what they want: watch, run something more, send a signal, wait.

One thread for each connection. The first one is of whoever started the container, and is heard before it begins.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from knarr.containers import call, wire
from knarr.containers.feed import Feed, closed_once
from knarr.errors import ContentError, KnarrError, Unsupported, UsageError
from knarr.record import replace
from knarr.runtime.live import Live, Process
from knarr.runtime.process import ProcessSpec, Stdio
from knarr.runtime.startfailure import exec_status
from knarr.runtime.terminal import opened, resize
from knarr.scope import Scope

_SLICE_S = 0.5  # between two looks whether a caller that does not read is waited for in vain
_AGAIN_S = 0.005
_LAST = 4096  # bytes of output in which a runtime's last words are looked for
_RUNTIME_FAILED = 255  # what crun and runc end with when there is no process


class _Caller:
    """One connection; `send` may be called from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lock = threading.Lock()
        self.gone = False

    def send(self, kind: bytes, data: bytes, *, given_up: threading.Event) -> None:
        """Send a frame. Who is gone, or does not read although `given_up` is set, hears nothing more."""
        rest = memoryview(wire.packed(kind, data))
        with self._lock:
            while rest and not self.gone:
                ready = select.select([], [self.connection], [], _SLICE_S)[1]
                if not ready:
                    self.gone = given_up.is_set()
                    continue
                try:
                    rest = rest[self.connection.send(rest, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
                except BlockingIOError:
                    continue
                except OSError:
                    self.gone = True

    def tell(self, kind: bytes, value: Any, *, given_up: threading.Event) -> None:
        self.send(kind, wire.encoded(value), given_up=given_up)


class Callers:
    """The connections of one monitor, from when it begins to listen until the container has ended."""

    def __init__(self, directory: Path, live: Live, stdin: Feed | None) -> None:
        self._directory = directory
        self._live = live
        self._lock = threading.Lock()
        self._watching: list[_Caller] = []
        self._all: list[_Caller] = []
        self._given_up = threading.Event()
        self._over = threading.Event()
        self._scope = Scope()
        self._starter: _Caller | None = None
        self.spec: ProcessSpec | None = None  # once it is known
        self.stdin = stdin
        self.size = (0, 0)
        self.ends_by: Callable[[], object] | None = None  # where no signal reaches the container: how it is ended
        self.status = 0

    @contextmanager
    def served(self, starter: socket.socket) -> Iterator[None]:
        """Hear `starter`, and listen to others while in the block; in the end all connections are closed."""
        listener = self._listen()
        first = self._starter = _Caller(starter)
        self._all.append(first)
        request = _request(starter)
        if request.get("do") == "attach":
            self._watch(first, request)
        with self._scope:
            self._scope.attempt(self._accept, listener)
            self._scope.attempt(self._frames, first, request)
            try:
                yield
            except KnarrError as error:
                self._fail(error)
            finally:
                self._close(listener)

    def started(self, pid: int) -> None:
        """Tell whoever started the container that it runs."""
        if self._starter is not None:
            self._starter.tell(wire.STARTED, {"pid": pid}, given_up=self._given_up)

    def output(self, stream: int, data: bytes) -> None:
        """Pass on to all that watch; blocks while one of them does not read."""
        with self._lock:
            watching = list(self._watching)
        for caller in watching:
            caller.send(wire.STDOUT if stream == 1 else wire.STDERR, data, given_up=self._given_up)
            if caller.gone:
                self._unwatch(caller)

    def end(self) -> None:
        """The container has ended and is cleaned up: tell all that watch or wait."""
        self._over.set()
        for caller in self._concerned():
            caller.tell(wire.ENDED, {"status": self.status}, given_up=self._given_up)

    def stop_later(self, name: str, timeout_s: float) -> None:
        """Begin to end the container; returns at once. For signal handlers."""
        threading.Thread(target=self._stop, args=(name, timeout_s), daemon=True).start()

    def _fail(self, error: KnarrError) -> None:
        self._over.set()
        for caller in self._concerned():
            caller.tell(wire.FAILED, call.told(error), given_up=self._given_up)

    def _concerned(self) -> list[_Caller]:
        """Who watches, and who started the container."""
        with self._lock:
            return list({id(caller): caller for caller in (*self._watching, *filter(None, [self._starter]))}.values())

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                os.unlink("socket", dir_fd=directory)
            listener.bind(f"/proc/self/fd/{directory}/socket")  # a whole path may be too long for a socket
            os.chmod("socket", 0o600, dir_fd=directory)
        finally:
            os.close(directory)
        listener.listen(16)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # it was closed: the container has ended
            caller = _Caller(connection)
            with self._lock:
                self._all.append(caller)
            self._scope.attempt(self._hear, caller)

    def _close(self, listener: socket.socket) -> None:
        self._over.set()
        self._given_up.set()
        with suppress(FileNotFoundError):
            os.unlink(self._directory / "socket")
        for connection in (listener, *(caller.connection for caller in self._all)):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD if connection is not listener else socket.SHUT_RDWR)
        listener.close()

    def _hear(self, caller: _Caller) -> None:
        try:
            self._answer(caller, _request(caller.connection))
        except KnarrError as error:
            caller.tell(wire.FAILED, call.told(error), given_up=self._given_up)
        except OSError:
            pass
        finally:
            self._unwatch(caller)
            with self._lock:
                self._all.remove(caller)
            caller.connection.close()

    def _answer(self, caller: _Caller, request: dict[str, Any]) -> None:
        what = request.get("do")
        if what == "attach":
            self._watch(caller, request)
            self._frames(caller, request)
        elif what == "exec":
            self._exec(caller, request)
        elif what == "signal":
            sent = self._signal(int(request["number"]))
            caller.tell(wire.ENDED, {"sent": sent}, given_up=self._given_up)
        elif what in ("stop", "wait"):
            if what == "stop":
                self._stop(str(request["signal"]), float(request["timeout_s"]))
            self._over.wait()
            caller.tell(wire.ENDED, {"status": self.status}, given_up=self._given_up)
        else:
            raise UsageError(f"{what!r} is not something a container can be asked")

    def _watch(self, caller: _Caller, request: dict[str, Any]) -> None:
        if request.get("size"):
            rows, columns = request["size"]
            self.size = (int(rows), int(columns))
            if self._live.first is not None:
                self._live.first.resize(*self.size)
        with self._lock:
            self._watching.append(caller)

    def _unwatch(self, caller: _Caller) -> None:
        with self._lock, suppress(ValueError):
            self._watching.remove(caller)

    def _frames(self, caller: _Caller, request: dict[str, Any]) -> None:
        """What a caller who watches says, until it goes."""
        detached = False
        while (frame := wire.receive(caller.connection)) is not None:
            kind, data = frame
            if kind == wire.STDIN and self.stdin is not None:
                self.stdin.write(data) if data else self.stdin.close()
            elif kind == wire.RESIZE and self._live.first is not None:
                self._live.first.resize(*_size(data))
            elif kind == wire.DETACH:
                detached = True
                break
        self._unwatch(caller)
        if request.get("stdin") and request.get("once") and not detached and self.stdin is not None:
            self.stdin.close()  # whoever was to write it is gone

    def _stop(self, name: str, timeout_s: float) -> None:
        """Ask the first process to end, and kill it when it does not in time (below 0: it may take for ever)."""
        if not self._signal(number_of(name)):
            return
        if not self._over.wait(None if timeout_s < 0 else timeout_s):
            self._given_up.set()
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> bool:
        """Send a signal to the first process; False when there is none any more."""
        if self.ends_by is not None:
            self.ends_by()
            return True
        return self._live.first is not None and self._live.first.signal(number)

    def _exec(self, caller: _Caller, request: dict[str, Any]) -> None:
        if self.ends_by is not None:
            raise Unsupported(
                "this place allows no namespaces, so a container cannot be entered",
                hint="run it where user namespaces are allowed: knarr doctor tells what is missing",
            )
        if self.spec is None:
            raise KnarrError("the container has not begun yet")
        spec = _further(self.spec, request)
        begun: list[Process] = []
        with Scope() as scope, ExitStack() as stack:
            feed, stdio = _streams(stack, scope, caller, request, self._given_up)
            hearing = self._scope.attempt(_hear_exec, caller.connection, feed, begun)
            over = threading.Event()
            stack.callback(over.set)
            scope.attempt(self._tell_begin, caller, begun, over)
            last = b""

            def output(stream: int, data: bytes) -> None:
                nonlocal last
                last = data[-_LAST:]
                caller.send(wire.STDOUT if stream == 1 else wire.STDERR, data, given_up=self._given_up)

            status = self._live.run(
                spec,
                output=output,
                scope=scope,
                stdio=stdio,
                begun=begun.append,
            )
        status = exec_status(last) if status == _RUNTIME_FAILED else status
        caller.tell(wire.ENDED, {"status": status}, given_up=self._given_up)
        with suppress(OSError):
            caller.connection.shutdown(socket.SHUT_RD)
        hearing.result()

    def _tell_begin(self, caller: _Caller, begun: list[Process], over: threading.Event) -> None:
        while not over.wait(_AGAIN_S):
            if begun and begun[0].pid:
                caller.tell(wire.STARTED, {"pid": begun[0].pid}, given_up=self._given_up)
                return


def _streams(
    stack: ExitStack, scope: Scope, caller: _Caller, request: dict[str, Any], given_up: threading.Event
) -> tuple[Feed | None, Stdio]:
    if not request.get("stdin") and not request.get("terminal"):
        return None, Stdio()
    source, ours = os.pipe()
    feed = Feed(ours)
    stack.callback(feed.close)
    stack.enter_context(closed_once(source))
    if not request.get("terminal"):
        return feed, Stdio(source)
    stdio = stack.enter_context(
        opened(lambda stream, data: caller.send(wire.STDOUT, data, given_up=given_up), scope, source=source)
    )
    if request.get("size"):
        resize(stdio, (int(request["size"][0]), int(request["size"][1])))
    return feed, stdio


def _hear_exec(connection: socket.socket, feed: Feed | None, begun: list[Process]) -> None:
    """What the caller of a further process says, until it goes."""
    with suppress(OSError, ContentError):
        while (frame := wire.receive(connection)) is not None:
            kind, data = frame
            if kind == wire.STDIN and feed is not None:
                feed.write(data) if data else feed.close()
            elif kind == wire.RESIZE and begun:
                begun[0].resize(*_size(data))
            elif kind == wire.SIGNAL and begun:
                begun[0].signal(int(data))
    if feed is not None:
        feed.close()


def _further(spec: ProcessSpec, request: dict[str, Any]) -> ProcessSpec:
    """The first process's spec, as another one shall run by `request`."""
    changed = replace(
        spec,
        args=tuple(map(str, request["args"])),
        env=(*spec.env, *map(str, request.get("env", ()))),
        cwd=str(request.get("cwd") or spec.cwd),
        user=str(request.get("user") or spec.user),
        terminal=bool(request.get("terminal")),
        ulimits=(),
    )
    return replace(changed, security="insecure") if request.get("privileged") else changed


def number_of(name: str) -> int:
    """The number of a signal: SIGTERM, term or 15.

    Raises:
        UsageError: there is none.
    """
    text = name.upper().removeprefix("SIG")
    if text.isdigit() and 0 < int(text) <= signal.SIGRTMAX:
        return int(text)
    start, plus, offset = text.partition("+")
    if start == "RTMIN" and plus and offset.isdigit() and signal.SIGRTMIN + int(offset) <= signal.SIGRTMAX:
        return signal.SIGRTMIN + int(offset)
    try:
        return signal.Signals[f"SIG{text}"].value
    except KeyError:
        raise UsageError(f"{name!r} is not a signal", hint="for example TERM, KILL, HUP, or a number") from None


def _size(data: bytes) -> tuple[int, int]:
    rows, columns = wire.decoded(data)
    return int(rows), int(columns)


def _request(connection: socket.socket) -> dict[str, Any]:
    """The first frame of a connection.

    Raises:
        ContentError: that is no request.
    """
    frame = wire.receive(connection)
    if frame is None or frame[0] != wire.REQUEST:
        raise ContentError("a caller said nothing that could be meant")
    told = wire.decoded(frame[1])
    if not isinstance(told, dict):
        raise ContentError("a request must be an object")
    return told
