"""The process that has one container: mounts its tree, runs it, keeps its log, answers callers, cleans up.

    python -P -m knarr.containers.monitor DIRECTORY DESCRIPTOR

The descriptor is a socket to whoever starts the container: its first request decides
whether somebody watches from the beginning. Everything ends with this process, in order if
it can, and else by `recover`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from knarr import linux
from knarr.config import Settings
from knarr.containers import call, networking, recover, wire
from knarr.containers.callers import Callers
from knarr.containers.feed import Feed, closed_once
from knarr.containers.log import LogWriter
from knarr.containers.process import process, require_possible
from knarr.containers.removal import remove
from knarr.containers.state import State
from knarr.containers.store import Container, Containers
from knarr.containers.volumes import Volumes
from knarr.errors import Cancelled, KnarrError, NotFound, RuntimeFailed
from knarr.record import replace
from knarr.runtime.live import Live
from knarr.runtime.process import Exit, Stdio
from knarr.runtime.runner import Runtime
from knarr.runtime.terminal import opened, resize
from knarr.scope import Scope
from knarr.snapshot.choose import choose
from knarr.snapshot.driver import Driver
from knarr.snapshot.mounting import mounted
from knarr.snapshot.namespace import take_rights
from knarr.snapshot.snapshotter import Mount

_AGAIN_S = 0.002
_LOOKS_S = 2.0  # who only looks holds a container for a moment
_BEGINS_S = 1.0  # how long a process may look like the runtime that starts it


def main(argv: list[str]) -> int:
    """Run the container to its end; the status says nothing."""
    starter = socket.socket(fileno=int(argv[1]))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o022)
    try:
        is_root = take_rights(os.environ) is None
        settings = Settings.from_environment(os.environ)
        containers = Containers(settings.root)
        container = containers.find(Path(argv[0]).name)
        with recover.guarded(container, starter) if is_root else ExitStack():
            _hold_and_run(containers, container, settings, starter)
    except KnarrError as error:
        with suppress(OSError):
            wire.tell(starter, wire.FAILED, call.told(error))
    finally:
        starter.close()
    return 0


def _hold_and_run(containers: Containers, container: Container, settings: Settings, starter: socket.socket) -> None:
    with container.held(patience_s=_LOOKS_S):
        monitor = Monitor(container, settings)
        with monitor.callers.served(starter):
            try:
                monitor.run()
            finally:
                if container.spec.remove:
                    remove(containers, container, with_volumes=True)
            monitor.callers.end()


class Monitor:
    """One run of one container."""

    def __init__(self, container: Container, settings: Settings) -> None:
        self._container = container
        self._settings = settings
        self._spec = container.spec
        self._live = Live()
        self._ended = threading.Event()
        self._state = State()
        self._source = -1  # what the process reads
        feed = None
        if container.spec.stdin or container.spec.terminal:
            self._source, ours = os.pipe()
            feed = Feed(ours)  # now already: callers begin to type before the process is there
        self.callers = Callers(container.path, self._live, feed)

    def run(self) -> None:
        """Run it, and leave nothing but its files behind.

        Raises:
            KnarrError: it could not be started; the state says why.
        """
        try:
            with ExitStack() as stack:
                ended = self._run(stack)
        except Cancelled:
            ended = Exit(128 + signal.SIGKILL)
        except KnarrError as error:
            status = (error.program_status if isinstance(error, RuntimeFailed) else 0) or 125
            self._write(replace(self._state, status="created", exit_status=status, error=error.message))
            raise
        now = time.time_ns()
        self._state = replace(
            self._state,
            status="exited",
            pid=0,
            started_ns=self._state.started_ns or now,
            finished_ns=now,
            exit_status=ended.status,
            out_of_memory=ended.out_of_memory,
        )
        self._write(self._state)
        self.callers.status = ended.status

    def _run(self, stack: ExitStack) -> Exit:
        spec, path = self._spec, self._container.path
        log = LogWriter(self._container.log)
        stack.callback(log.close)
        reserved = networking.Reserved(spec.ports)
        stack.callback(reserved.close)
        self._state = replace(self._state, ports=tuple(map(str, reserved.ports)))
        root = stack.enter_context(mounted(self._mounts(), path / "root"))
        networks = networking.joined(spec, reserved.ports, self._settings)
        runtime = self._runtime(networks)
        stack.callback(runtime.close)
        told = process(spec, root, Volumes(self._settings.root))
        self.callers.spec = told
        scope = stack.enter_context(Scope())
        stack.callback(self._ended.set)  # a thread of the scope waits for it
        stdio, begun = self._stdio(stack, scope, log)
        if linux.may_mount():
            scope.attempt(self._await_start, networks)
        else:
            begun = self._by_itself(scope, begun)
        signal.signal(signal.SIGTERM, lambda *_: self.callers.stop_later(spec.stop_signal, spec.stop_timeout_s))
        return runtime.run(
            told,
            output=lambda stream, data: self._output(log, stream, data),
            scope=scope,
            meanwhile=begun,
            stdio=stdio,
            live=self._live if linux.may_mount() else None,
        )

    def _runtime(self, networks: networking.Joined | None) -> Runtime:
        if linux.may_mount():
            return Runtime(self._settings.run, self._settings.oci_runtime, networks=lambda: networks)
        from knarr.runtime.unmounted import Unmounted
        from knarr.snapshot import tree

        require_possible(self._spec)
        return Unmounted(self._settings.run, tree.clone)

    def _by_itself(self, scope: Scope, begun: Callable[[], object]) -> Callable[[], object]:
        """Where a container has no namespaces, it runs with its launcher, and all signals are the end of it."""
        self.callers.ends_by = scope.cancel

        def tell() -> None:
            begun()
            self._note_start(os.getpid(), ())

        return tell

    def _mounts(self) -> tuple[Mount, ...]:
        driver = choose(self._settings.snapshots, self._settings.snapshotter or "auto")
        with closing(driver):
            return self._over(driver)

    def _over(self, driver: Driver) -> tuple[Mount, ...]:
        place = self._container.path / "tree"
        place.mkdir(mode=0o711, exist_ok=True)
        parent = self._spec.snapshot or None
        if parent is not None and driver.stat(parent) is None:
            raise NotFound(
                f"the image's files of container {self._spec.name} are not unpacked any more",
                hint=f"knarr start {self._spec.name} unpacks them again",
            )
        return driver.over(parent, place, fleeting=self._spec.remove)

    def _stdio(self, stack: ExitStack, scope: Scope, log: LogWriter) -> tuple[Stdio, Callable[[], object]]:
        """The process's streams, and what to do once it has them."""
        if self.callers.stdin is None:
            return Stdio(), _nothing
        stack.callback(self.callers.stdin.close)
        close = stack.enter_context(closed_once(self._source))
        if not self._spec.terminal:
            return Stdio(self._source), close
        stdio = stack.enter_context(
            opened(lambda stream, data: self._output(log, stream, data), scope, source=self._source)
        )
        resize(stdio, self.callers.size)
        return stdio, _nothing

    def _output(self, log: LogWriter, stream: int, data: bytes) -> None:
        log.write(stream, data)
        self.callers.output(stream, data)

    def _await_start(self, networks: networking.Joined | None) -> None:
        """Say that the container runs, once its process is no longer the runtime that begins it."""
        deadline = 0.0
        while not self._ended.wait(_AGAIN_S):
            pid = self._live.first.pid if self._live.first is not None else 0
            if not pid:
                continue
            deadline = deadline or time.monotonic() + _BEGINS_S
            if not _is_runtime(pid) or time.monotonic() > deadline:
                self._note_start(pid, networks.addresses if networks is not None else ())
                return

    def _note_start(self, pid: int, addresses: tuple[str, ...]) -> None:
        self._state = replace(self._state, status="running", pid=pid, started_ns=time.time_ns(), addresses=addresses)
        self._write(self._state)
        self.callers.started(pid)

    def _write(self, state: State) -> None:
        with suppress(OSError):  # on a full disk the lock still says whether it runs
            self._container.write_state(state)


def _is_runtime(pid: int) -> bool:
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return True  # it has just ended, or just begun: the next look tells
    return "crun" in name or "runc" in name


def _nothing() -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
