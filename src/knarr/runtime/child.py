"""A child process whose output is passed on as it comes, and which ends when its scope does."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable

from knarr.errors import RuntimeFailed
from knarr.runtime.process import Output, Stdio
from knarr.scope import Scope

_READ = 1 << 16  # what a pipe holds
_AGAIN_S = 0.05  # between two attempts to kill: a container may still be coming up
_PATIENCE_S = 5.0  # after which the child itself is killed
_ENVIRONMENT = ("PATH", "TMPDIR", "XDG_RUNTIME_DIR")


_NOTHING = Stdio()


def run(
    argv: list[str],
    *,
    output: Output,
    scope: Scope,
    kill: Callable[[], object],
    meanwhile: Callable[[], object],
    stdio: Stdio = _NOTHING,
) -> int:
    """Run `argv` to its end and return its exit status (128 + signal when killed).

    `meanwhile` is called once it has been started. When the scope is cancelled, or
    `output` or `meanwhile` raises, `kill` is called, again and again until the child
    has ended: it must end what the child waits for.

    Raises:
        RuntimeFailed: `argv` cannot be started.
        Cancelled: the scope was cancelled. The child has ended and is reaped.
    """
    out, child_out = os.pipe()
    err, child_err = os.pipe()
    try:
        try:
            outputs = (
                child_out if stdio.stdout is None else stdio.stdout,
                child_err if stdio.stderr is None else stdio.stderr,
            )
            pid = _spawn(argv, stdio.stdin, *outputs)
        finally:
            os.close(child_out)
            os.close(child_err)
        with _Wake() as wake, scope.on_cancel(wake.up):
            status = _watch(pid, {out: 1, err: 2}, wake, output, kill, meanwhile)
    finally:
        os.close(out)
        os.close(err)
    scope.check()
    return status


def _spawn(argv: list[str], stdin: int | None, out: int, err: int) -> int:
    nothing = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
    actions: tuple[tuple[int, int] | tuple[int, int, int] | tuple[int, int, str, int, int], ...] = (
        nothing if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
    )
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=actions,
            setpgroup=0,  # a Ctrl-C at the terminal is ours to handle
            setsigmask=(),
            # Python ignores these, and ignored signals stay ignored in what we start.
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
        )
    except OSError as error:
        raise RuntimeFailed(f"{argv[0]}: {error.strerror}") from error


def _watch(
    pid: int,
    pipes: dict[int, int],
    wake: _Wake,
    output: Output,
    kill: Callable[[], object],
    meanwhile: Callable[[], object],
) -> int:
    """Pass output on until the child has ended and its pipes are empty."""
    failure: BaseException | None = None
    ended = os.pidfd_open(pid)
    try:
        failure = _failure_of(meanwhile) or _pump(ended, pipes, wake, output)
        if failure is not None or wake.is_up:
            _end(pid, ended, pipes, kill)
    finally:
        os.close(ended)
    _, status = os.waitpid(pid, 0)
    if failure is not None:
        raise failure
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _failure_of(act: Callable[[], object]) -> BaseException | None:
    try:
        act()
    except BaseException as error:  # as in `_pump`: the child ends first
        return error
    return None


def _pump(ended: int, pipes: dict[int, int], wake: _Wake, output: Output) -> BaseException | None:
    """Until the child has ended and both pipes are closed, or there is a reason to stop; gives what `output` raised."""
    poll = select.poll()
    for descriptor in (ended, wake.descriptor, *pipes):
        poll.register(descriptor, select.POLLIN)
    alive, last = True, None
    while alive or pipes:
        events = poll.poll(last)
        if not events:
            return None  # the child is gone, and what keeps its pipes open says nothing
        for descriptor, _ in events:
            if descriptor == wake.descriptor:
                return None
            if descriptor == ended:
                poll.unregister(ended)
                alive, last = False, 200
                continue
            data = os.read(descriptor, _READ)
            if not data:
                poll.unregister(descriptor)
                del pipes[descriptor]
                continue
            try:
                output(pipes[descriptor], data)
            except BaseException as error:  # whatever it is: the child ends first, then it is raised
                return error
    return None


def _end(pid: int, ended: int, pipes: dict[int, int], kill: Callable[[], object]) -> None:
    """Kill until the child has ended, dropping what it still writes."""
    poll = select.poll()
    for descriptor in (ended, *pipes):
        poll.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        kill()
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        for descriptor, _ in poll.poll(_AGAIN_S * 1000):
            if descriptor == ended:
                return
            if not os.read(descriptor, _READ):
                poll.unregister(descriptor)


class _Wake:
    """Something to poll on that another thread can make ready, also when it comes too late."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.is_up = False
        self._lock = threading.Lock()
        self._closed = False

    def up(self) -> None:
        with self._lock:
            if not self._closed:
                self.is_up = True
                os.eventfd_write(self.descriptor, 1)

    def __enter__(self) -> _Wake:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closed = True
            os.close(self.descriptor)
