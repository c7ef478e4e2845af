"""Processes in order, their signals and their ends: what PID 1 of a container owes to those below it.

Services start one after another, each when the one before is ready, and end in the
opposite order. Whatever ends below is taken notice of, also what lost its parent.
If a service ends that nobody told to, all ends: whoever started the container knows
better than we what is to happen then.

    with Supervisor(say) as processes:
        for service in services: processes.start(service, environ)
        status = processes.wait()
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from knarr.errors import Cancelled, KnarrError
from knarr.node.services import Service
from knarr.record import record

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
_HEARD = frozenset((signal.SIGCHLD, *_STOP, *_PASSED_ON))
_TICK_S = 0.05
_READY_S = 120.0  # a store with many images, on a slow disk
_KILLED_S = 5.0


@record
class _Running:
    service: Service
    pid: int


class Told(Cancelled):
    """SIGTERM, SIGINT or SIGQUIT came."""


class Supervisor:
    """Looks after processes, from one thread, with signals blocked: they are asked for, never delivered."""

    def __init__(self, say: Callable[[str], None], work: Path) -> None:
        self._say = say
        self._work = work
        self._running: list[_Running] = []
        self._ended: dict[int, int] = {}  # pid → exit status
        self._main = 0
        self._stack = ExitStack()

    def __enter__(self) -> Supervisor:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._stop()
        finally:
            self._stack.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def start(self, service: Service, environ: Mapping[str, str]) -> None:
        """Start a service and wait until it is ready.

        Raises:
            KnarrError: it cannot be started, ends, or is not ready in time.
            Told: a signal says that all is to end.
        """
        # The socket stays as long as the service: it also says there that it ends.
        heard = self._stack.enter_context(_Notified(self._work)) if service.tells else None
        pid = self._spawn(service.argv, {**environ, **(heard.environ if heard else {})}, apart=True)
        self._running.append(_Running(service, pid))
        deadline = time.monotonic() + _READY_S
        while not (heard.ready() if heard else os.path.exists(service.socket)):
            self._listen()
            if pid in self._ended:
                raise KnarrError(f"{service.name} ended with status {self._ended[pid]} before it was ready")
            if time.monotonic() > deadline:
                raise KnarrError(f"{service.name} is not ready after {_READY_S:.0f} seconds")

    def run(self, argv: Sequence[str], environ: Mapping[str, str], *, main: bool = False) -> int:
        """Run a program to its end; gives its status. Signals go on to `main` instead of ending all.

        Raises:
            KnarrError: it cannot be started, or a service ended meanwhile.
            Told: as above.
        """
        pid = self._spawn(argv, environ, apart=False)
        self._main = pid if main else 0
        try:
            while pid not in self._ended:
                self._listen()
                self._check()
        except BaseException:
            _kill(pid, signal.SIGTERM)
            raise
        finally:
            self._main = 0
        return self._ended.pop(pid)

    def wait(self) -> None:
        """Until a signal says that all is to end, which is a regular end.

        Raises:
            KnarrError: a service ended.
        """
        try:
            while True:
                self._listen()
                self._check()
        except Told:
            return

    def _spawn(self, argv: Sequence[str], environ: Mapping[str, str], *, apart: bool) -> int:
        try:
            if apart:  # a group of its own: Ctrl-C is not for it
                return os.posix_spawnp(argv[0], list(argv), dict(environ), setpgroup=0, setsigmask=(), setsigdef=_HEARD)
            return os.posix_spawnp(argv[0], list(argv), dict(environ), setsigmask=(), setsigdef=_HEARD)
        except OSError as error:
            raise KnarrError(f"{argv[0]}: {error.strerror}") from error

    def _check(self) -> None:
        for each in self._running:
            if each.pid in self._ended:
                raise KnarrError(f"{each.service.name} ended with status {self._ended[each.pid]}: the node ends")

    def _listen(self, timeout_s: float = _TICK_S) -> None:
        """Take notice of one signal and of all that ended."""
        came = signal.sigtimedwait(_HEARD, timeout_s)
        self._reap()
        if came is None or came.si_signo == signal.SIGCHLD:
            return
        if self._main:
            _kill(self._main, came.si_signo)
        elif came.si_signo in _STOP:
            raise Told

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._ended[pid] = (
                os.waitstatus_to_exitcode(status) % 256 if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            )

    def _stop(self) -> None:
        """End the services, last first; further signals change nothing."""
        while self._running:
            each = self._running.pop()
            if each.pid in self._ended:
                continue
            _kill(each.pid, signal.SIGTERM)
            if not self._gone(each.pid, each.service.stop_s):
                self._say(f"{each.service.name} did not end in {each.service.stop_s:.0f} seconds: killed")
                _kill(each.pid, signal.SIGKILL)
                self._gone(each.pid, _KILLED_S)

    def _gone(self, pid: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while pid not in self._ended and time.monotonic() < deadline:
            signal.sigtimedwait(_HEARD, _TICK_S)
            self._reap()
        return pid in self._ended


def _kill(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class _Notified:
    """A socket on which a service says that it is ready. Spec: sd_notify(3)."""

    def __init__(self, work: Path) -> None:
        self._path = work / f"notify-{os.urandom(4).hex()}"
        self.environ = {"NOTIFY_SOCKET": str(self._path)}

    def __enter__(self) -> _Notified:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._socket.setblocking(False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def ready(self) -> bool:
        try:
            return b"READY=1" in self._socket.recv(4096).split(b"\n")
        except BlockingIOError:
            return False
