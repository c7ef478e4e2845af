"""Containers in which a frontend runs processes of its own: over results, with nothing kept of what they write.

The first process that is started is the container: when it ends, so do the
others. They run on threads of the container, until it is released or the build is
cancelled.

Spec: BuildKit's frontend/gateway/container at v0.33.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from knarr.engine import treefiles
from knarr.errors import Cancelled, UsageError
from knarr.frontend.gateway import ContainerSpec, FileStatus, Left, ProcessRequest, Ref, RunningProcess
from knarr.llb import definition
from knarr.llb.ops import NO_INPUT, NO_OUTPUT, ExecOp, Meta
from knarr.ops import entitlements
from knarr.ops.copytree import Tree
from knarr.ops.exec import process_spec
from knarr.ops.execmounts import Prepared, prepare
from knarr.record import replace
from knarr.runtime.live import Live, Process
from knarr.runtime.process import BindMount, ProcessSpec, Stdio
from knarr.runtime.terminal import opened
from knarr.scope import Outcome, Scope
from knarr.spec.platform import Platform, host_platform

if TYPE_CHECKING:
    from knarr.cache.record import RecordId
    from knarr.engine.gateway import EngineGateway
    from knarr.engine.job import Job

_NO_ARGS = Meta(args=())
_TERM = "TERM=xterm"
# As BuildKit sets it for a container that is said to be Windows, whatever then runs.
_WINDOWS_PATH = "PATH=c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0"
_AGAIN_S = 0.005
_PATIENCE_S = 10.0  # until a process that was started is there


class EngineContainer:
    """Implements `frontend.gateway.Container`."""

    def __init__(self, gateway: EngineGateway, spec: ContainerSpec, scope: Scope) -> None:
        """Mount what `spec` names. Cancelling `scope` ends the processes.

        Raises:
            UsageError: it has no root.
            KnarrError: a result cannot be solved, or something is not lent.
        """
        if not any(mount.dest == "/" for mount, _ in spec.mounts):
            raise UsageError("a container needs a mount at /")
        self._job: Job = gateway.job
        self._spec = spec
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._started: list[_Running] = []
        with Scope() as asking, scope.on_cancel(asking.cancel):
            records = [_record(gateway, ref, asking) for _, ref in spec.mounts]
        mounts = [
            replace(mount, input=NO_INPUT if records[n] is None else n, output=NO_OUTPUT)
            for n, (mount, _) in enumerate(spec.mounts)
        ]
        meta = replace(_NO_ARGS, extra_hosts=spec.extra_hosts, hostname=spec.hostname)
        self._op = ExecOp(meta, tuple(mounts), spec.network)
        with ExitStack() as stack:
            self._prepared = Prepared()
            prepare(self._job.world, self._op, records, self._prepared, stack)
            self._scope = stack.enter_context(Scope())  # left before the mounts are
            stack.enter_context(scope.on_cancel(self._scope.cancel))
            self._stack = stack.pop_all()

    def start(self, request: ProcessRequest) -> RunningProcess:
        spec = self._process(request)
        with self._lock:
            live, is_first = self._live or Live(), self._live is None
            self._live = live
        running = _Running(live, is_first=is_first, has_terminal=request.tty)
        run = partial(self._first if is_first else self._further, live, spec, request, running)
        try:
            running.outcome = self._scope.attempt(self._with_stdio, run, request, running)
        except Cancelled:
            if request.stdin is not None:
                os.close(request.stdin)
            raise
        self._started.append(running)
        return running

    def _process(self, request: ProcessRequest) -> ProcessSpec:
        mine = self._op.meta
        env = request.meta.env
        if request.tty and not any(pair.startswith("TERM=") for pair in env):
            env = (*env, _TERM)
        if self._spec.platform is not None and self._spec.platform.os == "windows":
            env = (_WINDOWS_PATH, *env)
        meta = replace(request.meta, env=env, extra_hosts=mine.extra_hosts, hostname=mine.hostname)
        op = ExecOp(meta, self._op.mounts, self._spec.network, request.security, request.secret_env)
        world, options = self._job.world, self._job.options
        platform = _runnable(self._spec.platform)
        entitlements.check([definition.vertex(op)], options.allowed, world.settings.cdi_dirs)
        return replace(process_spec(world, op, self._prepared, platform, options), terminal=request.tty)

    def _with_stdio(self, run: Callable[[Stdio], int], request: ProcessRequest, running: _Running) -> int:
        with ExitStack() as stack:
            if request.stdin is not None:
                stack.callback(os.close, request.stdin)
            if not request.tty:
                return run(Stdio(request.stdin))
            return run(stack.enter_context(opened(request.output, self._scope, source=request.stdin)))

    def _first(self, live: Live, spec: ProcessSpec, request: ProcessRequest, running: _Running, stdio: Stdio) -> int:
        runtime = self._job.world.runtime()
        return runtime.run(spec, output=request.output, scope=self._scope, stdio=stdio, live=live).status

    def _further(self, live: Live, spec: ProcessSpec, request: ProcessRequest, running: _Running, stdio: Stdio) -> int:
        return live.run(spec, output=request.output, scope=self._scope, stdio=stdio, begun=running.begin)

    def read_file(self, mount: int, path: str, *, offset: int, length: int | None) -> bytes:
        return treefiles.read(self._tree(mount), path, offset=offset, length=length)

    def list_directory(self, mount: int, path: str, *, pattern: str) -> list[FileStatus]:
        return treefiles.entries(self._tree(mount), path, pattern=pattern)

    def stat(self, mount: int, path: str) -> FileStatus:
        return treefiles.status(self._tree(mount), path)

    def _tree(self, mount: int) -> Tree:
        return Tree(self._root(mount), name="container")

    def _root(self, mount: int) -> str:
        if not 0 <= mount < len(self._spec.mounts):
            raise UsageError(f"the container has no mount {mount}")
        dest = self._spec.mounts[mount][0].dest
        if dest == "/":
            return self._prepared.root
        for prepared in self._prepared.mounts:
            if isinstance(prepared, BindMount) and prepared.target == dest:
                return os.fspath(prepared.source)
        raise UsageError(f"the files of the mount at {dest} cannot be looked at")

    def release(self) -> None:
        was_running = any(not running.outcome.done() for running in self._started)
        self._scope.cancel()
        self._stack.close()
        if was_running:
            raise Cancelled


def _record(gateway: EngineGateway, shown: Ref | Left | None, scope: Scope) -> RecordId | None:
    """The tree that a mount is to show; None for an empty one."""
    if shown is None:
        return None
    return shown.tree if isinstance(shown, Left) else gateway.record(shown, scope)


def _runnable(platform: Platform | None) -> Platform:
    """Where a process runs that is asked to run on `platform`, of which a frontend may say no more than a system."""
    here = host_platform()
    if platform is None or platform.os != here.os or not platform.architecture:
        return here
    return platform


class _Running:
    """Implements `frontend.gateway.RunningProcess`."""

    def __init__(self, live: Live, *, is_first: bool, has_terminal: bool) -> None:
        self.outcome: Outcome[int] = Outcome()
        self._has_terminal = has_terminal
        self._live = live
        self._is_first = is_first
        self._further: Process | None = None

    def begin(self, process: Process) -> None:
        self._further = process

    def wait(self) -> int:
        return self.outcome.result()

    def signal(self, number: int) -> None:
        self._try(lambda process: process.signal(number))

    def resize(self, rows: int, columns: int) -> None:
        if self._has_terminal:
            self._try(lambda process: process.resize(rows, columns))

    def _try(self, act: Callable[[Process], bool]) -> None:
        """Act on the process; while it is still being started, again and again."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.outcome.done() and time.monotonic() < deadline:
            process = self._live.first if self._is_first else self._further
            if process is not None and act(process):
                return
            time.sleep(_AGAIN_S)
