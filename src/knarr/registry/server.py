"""The server: aiohttp carries HTTP, `Registry` answers.

registry = Registry(Store(root, durable=True), ServerSettings(port=5000))
asyncio.run(registry.serve())
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable, Iterable

from aiohttp import web

from knarr import disk
from knarr.content.store import Store
from knarr.errors import KnarrError, RegistryError
from knarr.registry import blobs, gc, listing, manifests, referrers, routes, tokens, uploading
from knarr.registry.access import Guard
from knarr.registry.call import JSON, Call, Cut, answer
from knarr.registry.certificates import Certificates
from knarr.registry.connections import Connections
from knarr.registry.parts import Parts
from knarr.registry.passwords import Passwords
from knarr.registry.pulls import Pulls
from knarr.registry.refusal import Refusal, not_allowed
from knarr.registry.rights import ANYONE
from knarr.registry.routes import Kind
from knarr.registry.rules import Rules
from knarr.registry.settings import ServerSettings
from knarr.spec.digest import Digest

_API = {"Docker-Distribution-Api-Version": "registry/2.0"}
_EXTENSIONS = {"extensions": []}  # type: ignore[var-annotated]


class Registry:
    """One registry over one store."""

    def __init__(
        self,
        store: Store,
        settings: ServerSettings,
        *,
        tell: Callable[[str], object] | None = None,
        roots: Callable[[], Iterable[Digest]] = tuple,
    ) -> None:
        """`tell` is given lines about what the server does of itself; `roots` gives what others hold in the store.

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
        self.port = settings.port

    async def serve(self, ready: Callable[[], object] | None = None) -> None:
        """Serve until the task is cancelled. `ready` is called when connections are taken; `port` is known then."""
        server = Connections(self._handle, self.settings.limits)
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
                tasks.create_task(server.watch())
                tasks.create_task(self._sweep())
                tasks.create_task(self._pulls.note())
                if self.settings.retention.interval_s:
                    tasks.create_task(self._collect())
                if self._certificates:
                    tasks.create_task(self._certificates.watch(self._tell))
        finally:
            await runner.cleanup()
            self.parts.close()

    async def _sweep(self) -> None:
        """Drop uploads that nobody goes on with."""
        while True:
            await self.parts.blocking(self.parts.uploads.sweep, self.settings.limits.upload_idle_s)
            await asyncio.sleep(3600)

    async def _collect(self) -> None:
        """Collect now and then. A collection that fails is told, and the next one is tried."""
        retention = self.settings.retention
        while True:
            await asyncio.sleep(retention.interval_s)
            try:
                done = await self.parts.blocking(
                    lambda: gc.collect(self.parts.store, self.parts.ledger, retention, roots=self._roots)
                )
            except KnarrError as error:
                self._tell(error.render())
                continue
            if done.manifests or done.blobs or done.tags or done.freed:
                self._tell(gc.summary(done))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = _refused(refusal)
        except Cut:
            response = answer(408)
            response.force_close()
        except ConnectionError:
            return _gone(request)
        except KnarrError as error:
            self._tell(error.render())
            response = _refused(Refusal(507 if error.hint == disk.ROOM else 500, "UNAVAILABLE", error.message))
        except Exception:
            self._tell(traceback.format_exc().rstrip())
            if request.transport is None or request.transport.is_closing():
                return _gone(request)
            response = _refused(Refusal(500, "UNKNOWN", "this is a defect of the registry: its log says more"))
        if not response.prepared:
            response.headers.update(_API)
            if request.can_read_body and not request.content.is_eof():
                response.force_close()  # rather than reading what nobody wants
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, query = routes.split(request.raw_path)
        route = routes.parse(path)
        parts, guard, idle_s = self.parts, self._guard, self.settings.limits.idle_s
        if guard is None:
            caller = ANYONE
        elif route.kind is Kind.TOKEN:
            return await guard.token(Call(request, route, query, ANYONE, idle_s), parts.blocking)
        else:
            caller = await guard.admit(request, route, parts.blocking)
        call = Call(request, route, query, caller, idle_s)
        match call.route.kind:
            case Kind.BLOB:
                return await blobs.respond(parts, call)
            case Kind.MANIFEST:
                return await manifests.respond(parts, call)
            case Kind.UPLOADS:
                return await uploading.start(parts, call)
            case Kind.UPLOAD:
                return await uploading.go_on(parts, call)
            case Kind.REFERRERS:
                return referrers.respond(parts, call)
            case Kind.TAGS:
                return listing.tags(parts, call)
            case Kind.CATALOG:
                return listing.catalog(parts, call)
            case Kind.BASE:
                return _fixed(call, {})
            case Kind.EXTENSIONS:
                return _fixed(call, _EXTENSIONS)
        raise Refusal(404, "UNSUPPORTED", "this registry has no such endpoint")


def _guard(store: Store, settings: ServerSettings) -> Guard | None:
    """What asks callers who they are; None where nobody needs to say."""
    auth = settings.auth
    has_certificates = settings.tls is not None and settings.tls.client_ca is not None
    if not (auth.htpasswd or auth.robots or auth.rules or has_certificates):
        return None
    service = None
    if auth.tokens:
        service = tokens.Tokens(tokens.key(store.root / "registry.key"), auth.service, ttl_s=auth.token_s)
    rules = Rules(auth.rules, anonymous_read=auth.anonymous_read)
    return Guard(rules, Passwords(auth.htpasswd, auth.robots), service, auth.realm)


def _refused(refusal: Refusal) -> web.Response:
    return answer(refusal.status, body=refusal.body(), kind=JSON, headers=refusal.headers)


def _gone(request: web.BaseRequest) -> web.Response:
    """For who does not listen any more: an answer that began must not look whole."""
    if request.transport is not None:
        request.transport.abort()
    return answer(400)


def _fixed(call: Call, document: object) -> web.Response:
    if call.method not in ("GET", "HEAD"):
        raise not_allowed(call.method, "GET", "HEAD")
    return answer(200, body=json.dumps(document).encode(), kind=JSON)
