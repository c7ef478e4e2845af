"""The daemon's life: one on a state directory, serving until it is told to stop, and then finishing what it has begun.

with Daemon(settings) as daemon:
    daemon.wait()        # SIGTERM: no new builds, those under way may end; a second one: at once
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from knarr.buildkit.content import CONTENT, Content
from knarr.buildkit.gateway import SERVICE as LLB_BRIDGE
from knarr.buildkit.rpcthreads import RpcThreads
from knarr.buildkit.service import OPTIONS, serving
from knarr.buildkit.sessions import Sessions
from knarr.config import Containerd, Settings, cdi_dirs, trust_policy
from knarr.daemon import provenanceenv
from knarr.daemon.bridges import Bridges
from knarr.daemon.builds import Builds
from knarr.daemon.cacheusage import CacheUsage
from knarr.daemon.control import CONTROL, Control
from knarr.daemon.history import History
from knarr.daemon.listen import listening, trace_socket
from knarr.daemon.metrics import Metrics
from knarr.daemon.notify import READY, STOPPING, notify
from knarr.daemon.settings import DaemonSettings
from knarr.daemon.solve import Solver
from knarr.daemon.traces import Traces, collector
from knarr.daemon.worker import API_VERSION, Worker
from knarr.engine import keptdirectories
from knarr.engine.engine import Engine
from knarr.errors import KnarrError
from knarr.ops.entitlements import DEVICE
from knarr.possession import possession
from knarr.record import replace
from knarr.remote.settings import BUILDKITD_TOML, RegistrySettings
from knarr.scope import TICK_S, Scope
from knarr.session.kept import Kept
from knarr.snapshot.namespace import private_mounts
from knarr.spec.platform import Platform
from knarr.trace import settings as otel

if TYPE_CHECKING:
    from knarr.engine.parts import RegistryClient

log = logging.getLogger("knarr.daemon")

_CALLS = 2000  # at a time: a build takes three or four, so this is a wall against floods only
_ROOM = 80  # characters of a directory in which sockets are made
_LAST_WORDS_S = 2.0  # for answers that are on their way when the daemon ends


class Daemon:
    """A running daemon. `addresses` are those it listens at."""

    def __init__(
        self,
        settings: DaemonSettings,
        *,
        signals: bool = False,
        registry_client: RegistryClient | None = None,
        more_metrics: Callable[[], str] = str,
    ) -> None:
        """Take possession of the state directory and listen.

        With `signals`, SIGTERM and SIGINT stop it, from before anybody can find it
        listening: only for the main thread. `registry_client` as in `Engine`; `more_metrics`
        are told together with the daemon's own.

        Raises:
            UsageError: another daemon has it, or an address cannot be had.
            KnarrError: the state directory cannot be used.
        """
        self.settings = settings
        self._registry_client = registry_client
        self._more_metrics = more_metrics
        self._stack = ExitStack()
        self._stopped = threading.Event()
        self._signals = 0
        with ExitStack() as stack:
            if signals:
                stack.enter_context(self._on_signals())
            self._open(stack)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack) -> None:
        settings = self.settings
        private_mounts()  # before there are threads, which would each have their own
        os.umask(0o022)
        stack.enter_context(
            possession(
                settings.root / "daemon.lock",
                "daemon",
                what="state directory",
                shown=settings.addresses,
                hint="give this one a --root of its own",
            )
        )
        private = settings.root / "run" / "daemon"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(parents=True, mode=0o700)
        scope = stack.enter_context(Scope())
        stack.callback(scope.cancel)
        self._builds = Builds(private)
        sockets = stack.enter_context(_short(private))
        self._sessions = Sessions(sockets)
        self._metrics = Metrics(lambda: self._builds.count, lambda: self._sessions.count)
        server = grpc.server(RpcThreads(scope), options=OPTIONS, maximum_concurrent_rpcs=_CALLS)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._history = History(settings.root / "history", settings.history)
        self._traces = _traces(self._history, scope)
        content = Content(self._history.blobs, settings.root / "content/blobs/sha256")
        services = (
            (CONTROL, self._control(scope)),
            (LLB_BRIDGE, Bridges(self._builds)),
            (CONTENT, content),
        )
        server.add_generic_rpc_handlers([*(serving(*service) for service in services), self._traces.handler()])
        self.addresses = stack.enter_context(listening(server, settings, os.fspath(sockets)))
        if settings.trace_socket:
            self._traces.socket = os.path.abspath(settings.trace_socket)
            stack.enter_context(self._traced(scope))
        self._server = server
        server.start()
        stack.callback(self._end)
        self.debug_address = ""
        if settings.debug_address:
            self.debug_address = stack.enter_context(self._watched(settings.debug_address, scope))
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        notify(READY)

    def _control(self, scope: Scope) -> Control:
        settings = self.settings
        verify = trust_policy(os.environ.get("KNARR_VERIFY", ""))
        own = Settings(
            settings.root,
            snapshotter=settings.snapshotter,
            oci_runtime=settings.oci_runtime,
            cgroup_parent=settings.cgroup_parent,
            containerd=settings.containerd,
            containerd_usual=settings.containerd or Containerd(),
            network=settings.network,
            verify=verify,
            cdi_dirs=(tuple(map(Path, settings.cdi_dirs)) or cdi_dirs(os.environ)) if settings.gives_devices else (),
        )
        engine = Engine(own, registry_settings=self._registry_settings, registry_client=self._registry_client)
        usage = CacheUsage(own, settings.policy, collects=settings.collects)
        platforms = tuple(map(Platform.parse, settings.platforms))
        worker = Worker(settings.root, labels=settings.labels, platforms=platforms, cdi_dirs=own.cdi_dirs)
        solver = Solver(
            engine,
            self._sessions,
            Kept(keptdirectories.place(settings.root)),
            worker,
            (*settings.entitlements, DEVICE) if settings.gives_devices else settings.entitlements,
            provenanceenv.load(settings.provenance_dir),
            containerd=settings.containerd,
        )

        def after_build() -> None:
            scope.attempt(usage.collect)

        return Control(
            self._builds,
            self._sessions,
            solver,
            worker,
            usage,
            self._history,
            self._metrics,
            self._traces,
            after_build=after_build,
        )

    def _registry_settings(self) -> RegistrySettings:
        usual = RegistrySettings.from_environment(os.environ)
        # Servers of files know builders by this name.
        agent = f"buildkit/{API_VERSION} {usual.user_agent}"
        return replace(usual, buildkitd_toml=(self.settings.config or BUILDKITD_TOML,), user_agent=agent)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    @contextmanager
    def _traced(self, scope: Scope) -> Iterator[None]:
        """A server of its own for what steps tell: they must reach nothing else of the daemon's."""
        server = grpc.server(RpcThreads(scope), options=OPTIONS, maximum_concurrent_rpcs=_CALLS)
        server.add_generic_rpc_handlers([self._traces.handler()])
        with trace_socket(server, self._traces.socket):
            server.start()
            try:
                yield
            finally:
                server.stop(_LAST_WORDS_S).wait()

    def _watched(self, address: str, scope: Scope) -> AbstractContextManager[str]:
        from knarr.daemon.debughttp import watched

        def told() -> str:
            return self._metrics.text() + self._more_metrics()

        return watched(address, told, lambda: not self._stopped.is_set(), scope)

    def wait(self, *, until: Callable[[], bool] = lambda: False) -> None:
        """Serve until `stop` was called, or `until` says so; then until the builds under way have ended, in time."""
        while not self._stopped.wait(TICK_S) and not until():
            pass
        self._stopped.set()
        self._health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        notify(STOPPING)
        self._builds.refuse(KnarrError("the daemon is shutting down", hint="start the build again when it is back"))
        waited = 0.0
        while not self._builds.wait(TICK_S) and waited < self.settings.drain_s and self._signals < 2:
            waited += TICK_S
        self._builds.cancel()

    def stop(self) -> None:
        """End: the first call lets builds under way end, a second one does not."""
        self._signals += 1
        self._stopped.set()

    @contextmanager
    def _on_signals(self) -> Iterator[None]:
        """While in the block, SIGTERM and SIGINT stop the daemon."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        self._builds.cancel()
        self._builds.wait(self.settings.drain_s)
        self._sessions.close()
        self._server.stop(_LAST_WORDS_S).wait()


def _traces(history: History, scope: Scope) -> Traces:
    resource = otel.resource(os.environ, "knarr-buildkitd", version("knarr"))
    return Traces(history, scope, resource, collector(os.environ, lambda line: log.warning("%s", line)))


@contextmanager
def _short(directory: Path) -> Iterator[Path]:
    """The directory by a name that leaves room for a socket's: the kernel takes 107 characters for both."""
    if len(os.fspath(directory)) < _ROOM:
        yield directory
        return
    held = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{held}")
    finally:
        os.close(held)
