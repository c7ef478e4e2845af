"""The containers of LLBBridge: made, looked into, released; and ExecProcess, the stream on which processes live.

Several processes share a stream, told apart by ids of the client's. A process that
still runs when its stream ends is killed.

Spec: BuildKit's frontend/gateway/gateway.go, ExecProcess, at v0.33.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TYPE_CHECKING, Any

from knarr.buildkit import gatewayrecords as records
from knarr.buildkit.failure import status_of
from knarr.errors import Cancelled, KnarrError, NotFound, UsageError
from knarr.frontend.gateway import Container, ContainerSpec, ProcessRequest, RunningProcess
from knarr.llb.ops import HostIP, NetMode
from knarr.llb.parse import read_meta, read_mount, read_secret_env, read_security
from knarr.pb import gateway_pb2 as pb
from knarr.scope import TICK_S, Scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.frontend.gateway import Gateway, Left, Ref

_UNKNOWN_STATUS = 255  # of a process that could not be started, or whose end nobody saw
_AHEAD = 64  # messages that wait for the client; then the processes wait
_REALTIME = re.compile(r"RTM(IN|AX)([+-]\d+)?")


class Containers:
    """The containers of one frontend. `scope` is the frontend's."""

    def __init__(self, gateway: Gateway, find: Callable[[str], Ref | Left], scope: Scope) -> None:
        self._gateway = gateway
        self._find = find
        self._scope = scope
        self._lock = threading.Lock()
        self._known: dict[str, Container] = {}

    def make(self, request: pb.NewContainerRequest) -> None:
        if not request.ContainerID:
            raise UsageError("a container needs an id")
        if request.ContainerID in self._known:
            raise UsageError(f"container {request.ContainerID} already exists")
        mounts = tuple(
            (read_mount(mount), self._find(mount.resultID) if mount.resultID else None) for mount in request.Mounts
        )
        spec = ContainerSpec(
            mounts,
            NetMode(request.Network),
            records.platform_of(request, "platform"),
            tuple(HostIP(host.Host, host.IP) for host in request.extraHosts),
            request.hostname,
        )
        made = self._gateway.container(spec, scope=self._scope)
        with self._lock:
            taken = request.ContainerID in self._known
            if not taken:
                self._known[request.ContainerID] = made
        if taken:
            made.release()  # nothing runs in it
            raise UsageError(f"container {request.ContainerID} already exists")

    def get(self, id: str) -> Container:
        found = self._known.get(id)
        if found is None:
            raise NotFound(f"container {id!r} previously released or not created")
        return found

    def release(self, id: str) -> None:
        self.get(id)
        with self._lock:
            container = self._known.pop(id, None)
        if container is not None:
            container.release()

    def close(self) -> None:
        """Release those that the frontend has left."""
        for id in list(self._known):
            with suppress(Cancelled):
                self.release(id)


def serve_processes(containers: Containers, requests: Iterator[pb.ExecMessage], scope: Scope) -> Iterator[Any]:
    """The answers on one stream, as long as it lasts."""
    stream = _Stream(containers, scope)
    reader = scope.attempt(stream.read, requests)
    try:
        yield from stream.answers()
    finally:
        stream.close()
        with suppress(Exception):  # of a stream that the client has broken off
            reader.result()


class _Stream:
    """What is going on on one stream. `read` has a thread of its own, and so has each process."""

    def __init__(self, containers: Containers, scope: Scope) -> None:
        self._containers = containers
        self._scope = scope
        self._out: Queue[pb.ExecMessage | BaseException | None] = Queue(_AHEAD)
        self._closed = False
        self._processes: dict[str, _Process] = {}

    def read(self, requests: Iterator[pb.ExecMessage]) -> None:
        """Act on what the client says, until it has nothing more to say and all processes have ended."""
        try:
            for message in requests:
                self._take(message)
            for process in self._processes.values():
                process.close_stdin()
                process.ended.wait()
            self.send(None)
        except BaseException as error:  # also what others raise for a client that went away: the stream is over
            self.send(
                error if isinstance(error, (KnarrError, Cancelled)) else KnarrError(f"the stream failed: {error}")
            )
        finally:
            for process in self._processes.values():
                process.close_stdin()

    def answers(self) -> Iterator[pb.ExecMessage]:
        while True:
            try:
                found = self._out.get(timeout=TICK_S)
            except Empty:
                self._scope.check()
                continue
            if found is None:
                return
            if isinstance(found, BaseException):
                raise found
            yield found

    def send(self, message: pb.ExecMessage | BaseException | None) -> None:
        """Hand a message to the client. Waits while there are too many; gives up when the stream has ended."""
        while not self._closed:
            try:
                return self._out.put(message, timeout=TICK_S)
            except Full:
                continue
        return None

    def close(self) -> None:
        """End what still runs."""
        self._closed = True
        for process in self._processes.values():
            process.kill()
            process.ended.wait()

    def _take(self, message: pb.ExecMessage) -> None:
        id, kind = message.ProcessID, message.WhichOneof("Input")
        if not id:
            raise UsageError("a message names no process")
        if kind == "Init":
            if id in self._processes:
                raise UsageError(f"process {id} already exists")
            self._begin(id, message.Init)
            return
        process = self._processes.get(id)
        if process is None:
            raise NotFound(f"process {id!r} was not started on this stream")
        if kind == "File":
            process.write(message.File)
        elif kind == "Resize":
            process.running.resize(message.Resize.Rows, message.Resize.Cols)
        elif kind == "Signal":
            process.running.signal(signal_number(message.Signal.Name))

    def _begin(self, id: str, init: pb.InitMessage) -> None:
        container = self._containers.get(init.ContainerID)
        process = self._processes[id] = _Process(id, set(init.Fds), self)
        try:
            process.start(container, init)
        except KnarrError as error:  # told as the process's end: a client waits for both
            process.fail(error)
        else:
            self._scope.attempt(process.watch)


class _Process:
    """One process of a stream."""

    def __init__(self, id: str, streams: set[int], stream: _Stream) -> None:
        self.ended = threading.Event()
        self.running: RunningProcess
        self._id = id
        self._streams = streams
        self._stream = stream
        self._told = threading.Event()  # that it has started: no output comes before
        self._lock = threading.Lock()
        self._stdin: int | None = None

    def start(self, container: Container, init: pb.InitMessage) -> None:
        theirs = None
        if 0 in self._streams:
            theirs, self._stdin = os.pipe()
        request = ProcessRequest(
            read_meta(init.Meta),
            self._output,
            read_security(init.Security),
            tuple(map(read_secret_env, init.secretenv)),
            init.Tty,
            theirs,
        )
        self.running = container.start(request)
        self._send(Started=pb.StartedMessage())
        self._told.set()

    def watch(self) -> None:
        """Wait for its end and tell it."""
        try:
            status = self.running.wait()
            error: BaseException | None = KnarrError(f"exit code: {status}") if status else None
        except (KnarrError, OSError, Cancelled) as failure:
            status, error = _UNKNOWN_STATUS, failure
        self._end(status, error)

    def fail(self, error: KnarrError) -> None:
        """Tell that it could not be started."""
        self._send(Started=pb.StartedMessage())
        self._end(_UNKNOWN_STATUS, error)

    def _end(self, status: int, error: BaseException | None) -> None:
        self.close_stdin()
        for number in sorted(self._streams - {0}):
            self._send(File=pb.FdMessage(Fd=number, EOF=True))
        self._send(Exit=pb.ExitMessage(Code=status, Error=status_of(error) if error is not None else None))
        self._send(Done=pb.DoneMessage())
        self.ended.set()

    def write(self, message: pb.FdMessage) -> None:
        """What the client types."""
        if message.Fd != 0 or 0 not in self._streams:
            raise UsageError(f"descriptor {message.Fd} of process {self._id} cannot be written to")
        rest = memoryview(message.Data)
        with suppress(OSError):  # it has closed its input, or has ended
            while rest and self._stdin is not None:
                rest = rest[os.write(self._stdin, rest) :]
        if message.EOF:
            self.close_stdin()

    def close_stdin(self) -> None:
        with self._lock:
            descriptor, self._stdin = self._stdin, None
        if descriptor is not None:
            os.close(descriptor)

    def kill(self) -> None:
        if not self.ended.is_set():
            self.running.signal(signal.SIGKILL)

    def _output(self, number: int, data: bytes) -> None:
        self._told.wait()
        if number in self._streams:
            self._send(File=pb.FdMessage(Fd=number, Data=data))

    def _send(self, **kind: Any) -> None:
        self._stream.send(pb.ExecMessage(ProcessID=self._id, **kind))


def signal_number(name: str) -> int:
    """The number of a signal by its name, with or without SIG.

    Raises:
        UsageError: there is no such signal.
    """
    plain = name.upper().removeprefix("SIG")
    realtime = _REALTIME.fullmatch(plain)
    if realtime is not None:
        base = signal.SIGRTMIN if realtime[1] == "IN" else signal.SIGRTMAX
        return base + int(realtime[2] or 0)
    try:
        return int(signal.Signals[f"SIG{plain}"])
    except KeyError:
        raise UsageError(f"there is no signal {name!r}") from None
