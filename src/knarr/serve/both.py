"""The daemon and the registry in one process: one start, one readiness, one end.

with Both(daemon_settings, registry_settings, names=("registry.corp.example",), tell=print) as both:
    both.wait()      # SIGTERM: builds under way may end, and pull and push here meanwhile; then the registry ends
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from knarr.content.store import Store
from knarr.daemon.server import Daemon
from knarr.daemon.settings import DaemonSettings
from knarr.record import record
from knarr.registry.direct import Client
from knarr.registry.requestlog import Log
from knarr.registry.server import Registry, alone
from knarr.registry.settings import ServerSettings
from knarr.remote.repository import Registry as Remote
from knarr.scope import TICK_S, Scope
from knarr.snapshot.namespace import private_mounts
from knarr.spec.digest import Digest

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@record
class Surroundings:
    """What the process lends to its registry: see `registry.server.Registry`."""

    tell: Callable[[str], object]
    log: Log | None = None
    roots: Callable[[], Iterable[Digest]] = tuple
    client: Callable[[], Remote] | None = None


class Both:
    """A running daemon with its registry. `daemon` has the addresses, `registry` its registry."""

    def __init__(
        self,
        daemon: DaemonSettings,
        registry: ServerSettings,
        *,
        names: Iterable[str] = (),
        surroundings: Surroundings,
        signals: bool = False,
    ) -> None:
        """Take possession of state and store, and listen. `names` are what references call the registry, `host[:port]`.

        Raises:
            UsageError: another process has the state, or an address or a file cannot be used.
            KnarrError: something of it cannot be had.
        """
        self._registry_settings = registry
        self._surroundings = surroundings
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._open(stack, daemon, tuple(names), signals)
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack, settings: DaemonSettings, names: tuple[str, ...], signals: bool) -> None:
        private_mounts()  # before there are threads, which would each have their own
        around = self._surroundings
        store = Store(settings.root / "content", durable=True)
        stack.callback(store.close)
        stack.enter_context(alone(store, self._registry_settings))
        registry = Registry(
            store,
            self._registry_settings,
            tell=around.tell,
            log=around.log,
            roots=around.roots,
            client=around.client,
            measured=bool(settings.debug_address),
        )
        scope = stack.enter_context(Scope())
        running = _Running(registry)
        stack.callback(running.stop)
        self._serving = scope.start(running.run)
        while not running.ready.wait(TICK_S):
            if self._serving.done():
                self._serving.result()
        self.registry = registry
        own = frozenset(own_names(names, self._registry_settings.host, registry.port))
        client = partial(Client, home=registry.home(), names=own)
        self.daemon = Daemon(settings, signals=signals, registry_client=client, more_metrics=registry.metrics)
        stack.enter_context(self.daemon)

    def __enter__(self) -> Both:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()

    def wait(self) -> None:
        """Serve until the daemon is told to stop, or the registry fails; then until builds under way have ended.

        Raises:
            KnarrError: the registry has failed.
        """
        self.daemon.wait(until=self._serving.done)


class _Running:
    """A registry on a thread of its own."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.ready = threading.Event()
        self._stop: Callable[[], object] = lambda: None

    def run(self) -> None:
        """Serve until `stop`."""
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            return

    async def _serve(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)
        await self._registry.serve(self.ready.set)

    def stop(self) -> None:
        """End: what is being answered has some seconds more."""
        try:
            self._stop()
        except RuntimeError:
            return  # it has ended by itself


def own_names(names: Iterable[str], host: str, port: int) -> Iterable[str]:
    """All by which references on this machine call the registry that listens on `host`:`port`."""
    yield from names
    shown = f"[{host}]" if ":" in host else host
    yield f"{shown}:{port}"
    if host in ("", "0.0.0.0", "::") or host.startswith("127.") or host in ("::1", "localhost"):
        yield from (f"{name}:{port}" for name in _LOOPBACK)
