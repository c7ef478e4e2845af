"""The server: aiohttp carries HTTP, `Registry` answers.

registry = Registry(Store(root, durable=True), ServerSettings(port=5000))
asyncio.run(registry.serve())
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress

from aiohttp import web

from knarr.content.salvage import keep_copy
from knarr.content.sharing import secret
from knarr.content.store import Store
from knarr.errors import KnarrError, RegistryError
from knarr.possession import possession
from knarr.registry import gc, tokens
from knarr.registry.access import Guard
from knarr.registry.answering import Desk
from knarr.registry.certificates import Certificates
from knarr.registry.connections import Connections
from knarr.registry.direct import Home
from knarr.registry.events import Event
from knarr.registry.fetching import Fetcher
from knarr.registry.metrics import Metrics
from knarr.registry.parts import Parts
from knarr.registry.passwords import Passwords
from knarr.registry.proxying import Proxy
from knarr.registry.pulls import Pulls
from knarr.registry.requestlog import Log
from knarr.registry.rules import Rules
from knarr.registry.settings import ServerSettings
from knarr.registry.webhooks import Sender
from knarr.remote.repository import Registry as Client
from knarr.spec.digest import Digest

_AGAIN_S = 30.0
_COPY_S = 600.0  # at most so much of what was pushed is in no copy; 100 MB take a second


class Registry:
    """One registry over one store."""

    def __init__(
        self,
        store: Store,
        settings: ServerSettings,
        *,
        tell: Callable[[str], object] | None = None,
        log: Log | None = None,
        roots: Callable[[], Iterable[Digest]] = tuple,
        client: Callable[[], Client] | None = None,
        measured: bool = False,
    ) -> None:
        """`tell` is given lines about what the server does of itself, `log` one for each request.

        `roots` gives what others than the registry hold in the store; `client` asks upstreams.
        With `measured` there are `metrics()`, whatever is served at /metrics.

        Raises:
            UsageError: the files of accounts or certificates cannot be used.
        """
        self.settings = settings
        self._tell = tell or (lambda line: None)
        self._certificates = Certificates(settings.tls) if settings.tls else None
        self.parts = Parts(store, settings)
        self._pulls = Pulls(self.parts)
        self._roots = roots
        self._guard = _guard(store, settings)
        self._counts = Metrics() if settings.metrics or measured else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._senders = [Sender(hook, self._tell) for hook in settings.webhooks]
        for sender in self._senders:
            self.parts.events.listen(sender.hear)
        if self._counts is not None:
            counts = self._counts
            self.parts.events.listen(lambda event: counts.event(event.action, event.size))
        self._proxy = None
        if settings.upstreams and client is not None:
            self._proxy = Proxy(self.parts, Fetcher(store, self.parts.ledger, client))
        self._desk = Desk(self.parts, self._guard, tell=self._tell, log=log, counts=self._counts, proxy=self._proxy)
        self.port = settings.port

    @property
    def is_open(self) -> bool:
        """Whether everybody may do everything."""
        return self._guard is None

    def home(self) -> Home:
        """The registry for builds in this process: see `direct`."""
        return Home(self.parts, self._guard, self._hear)

    def _hear(self, event: Event) -> None:
        """Something happened past HTTP, on another thread: tell whoever listens, in the loop."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self.parts.events.tell, event)

    def metrics(self) -> str:
        """The figures for Prometheus, "" without any. From any thread."""
        return self._counts.text(self.parts.gauges()) if self._counts is not None else ""

    async def serve(self, ready: Callable[[], object] | None = None) -> None:
        """Serve until the task is cancelled. `ready` is called when connections are taken; `port` is known then."""
        self._loop = asyncio.get_running_loop()
        server = Connections(self._desk.handle, self.settings.limits)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=5.0)
        await runner.setup()
        try:
            context = self._certificates.context if self._certificates else None
            site = web.TCPSite(runner, self.settings.host, self.settings.port, ssl_context=context)
            try:
                await site.start()
            except OSError as error:
                where = f"{self.settings.host}:{self.settings.port}"
                raise RegistryError(
                    f"cannot listen on {where}: {error.strerror}", hint="choose another address with --listen"
                ) from error
            self.port = runner.addresses[0][1]
            if ready is not None:
                ready()
            async with asyncio.TaskGroup() as tasks:
                for work in self._works(server):
                    tasks.create_task(self._steadily(work))
        finally:
            await runner.cleanup()
            if self._proxy is not None:
                self._proxy.close()
            self.parts.close()

    def _works(self, server: Connections) -> Iterator[Callable[[], Awaitable[None]]]:
        """What the server does beside answering."""
        yield server.watch
        yield self._sweep
        yield self._copy
        yield self._pulls.note
        if self.settings.retention.interval_s:
            yield self._collect
        if self._certificates:
            certificates = self._certificates
            yield lambda: certificates.watch(self._tell)
        for sender in self._senders:
            yield sender.run

    async def _steadily(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work until cancelled. When it fails, say so and begin again: the server goes on serving."""
        while True:
            try:
                await work()
            except KnarrError as error:
                self._tell(error.render())
            except Exception:
                self._tell(traceback.format_exc().rstrip())
            await asyncio.sleep(_AGAIN_S)

    async def _sweep(self) -> None:
        """Drop uploads that nobody goes on with."""
        while True:
            await self.parts.blocking(self.parts.uploads.sweep, self.settings.limits.upload_idle_s)
            await asyncio.sleep(3600)

    async def _copy(self) -> None:
        """Leave a copy of what is known beside it: what the repositories have is nowhere else."""
        while True:
            await self.parts.blocking(keep_copy, self.parts.store.root / "meta.db")
            await asyncio.sleep(_COPY_S)

    async def _collect(self) -> None:
        """Collect now and then."""
        retention = self.settings.retention
        while True:
            await asyncio.sleep(retention.interval_s)
            done = await self.parts.blocking(
                lambda: gc.collect(self.parts.store, self.parts.ledger, retention, roots=self._roots)
            )
            if done.manifests or done.blobs or done.tags or done.freed:
                self._tell(gc.summary(done))


def alone(store: Store, settings: ServerSettings) -> AbstractContextManager[None]:
    """One server on a store at a time.

    Raises (on entering):
        UsageError: there is one; the message says which.
    """
    return possession(
        store.root / "registry.lock",
        "registry",
        what="store",
        shown=(f"{settings.host}:{settings.port}",),
        hint="set KNARR_ROOT to a directory of this one's own",
    )


def _guard(store: Store, settings: ServerSettings) -> Guard | None:
    """What asks callers who they are; None where nobody needs to say."""
    auth = settings.auth
    has_certificates = settings.tls is not None and settings.tls.client_ca is not None
    if not (auth.htpasswd or auth.robots or auth.rules or auth.anonymous_read or has_certificates):
        return None
    service = None
    if auth.tokens:
        service = tokens.Tokens(secret(store.root / "registry.key"), auth.service, ttl_s=auth.token_s)
    rules = Rules(auth.rules, anonymous_read=auth.anonymous_read)
    return Guard(rules, Passwords(auth.htpasswd, auth.robots), service, auth.realm)
