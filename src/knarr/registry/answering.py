"""From a request to its answer: route, caller, the module that knows, and what becomes of every failure."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable

from aiohttp import web

from knarr import disk, exposition
from knarr.errors import KnarrError
from knarr.registry import blobs, listing, manifests, metrics, referrers, requestlog, routes, uploading
from knarr.registry.access import Guard
from knarr.registry.call import JSON, Call, Cut, answer
from knarr.registry.parts import Parts
from knarr.registry.proxying import Proxy
from knarr.registry.refusal import Refusal, not_allowed
from knarr.registry.rights import ANYONE
from knarr.registry.routes import Kind
from knarr.registry.upstreams import foreign, localised

_API = {"Docker-Distribution-Api-Version": "registry/2.0"}
_EXTENSIONS: dict[str, list[object]] = {"extensions": []}


class Desk:
    """Where requests are answered. `tell` is given lines for the operator, `log` a line for each request."""

    def __init__(
        self,
        parts: Parts,
        guard: Guard | None,
        *,
        tell: Callable[[str], object],
        log: requestlog.Log | None = None,
        counts: metrics.Metrics | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._parts = parts
        self._guard = guard
        self._tell = tell
        self._log = log
        self._counts = counts
        self._proxy = proxy

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request whatever; never raises but for cancellation."""
        if self._log is None and self._counts is None:
            return await self._respond(request, {})
        start = time.perf_counter()
        seen: dict[str, str] = {}
        response = await self._respond(request, seen)
        taken = time.perf_counter() - start
        if self._counts is not None:
            self._counts.request(request.method[:10], seen.get("endpoint", "none"), response.status, taken)
        if self._log is not None:
            size = response.content_length or 0
            self._log(requestlog.line(request, response.status, taken, caller=seen.get("caller", ""), size=size))
        return response

    async def _respond(self, request: web.BaseRequest, seen: dict[str, str]) -> web.StreamResponse:
        """The answer, and in `seen` what was found out about the request: its endpoint, its caller."""
        try:
            response = await self._answer(request, seen)
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

    async def _answer(self, request: web.BaseRequest, seen: dict[str, str]) -> web.StreamResponse:
        path, query = routes.split(request.raw_path)
        route = routes.parse(path)
        seen["endpoint"] = route.kind.value
        parts, guard = self._parts, self._guard
        upstreams = parts.settings.upstreams
        if upstreams:
            ns = next((value for key, value in query if key == "ns"), "")
            route = localised(upstreams, route, ns, request.host)
        idle_s = parts.settings.limits.idle_s
        if guard is None:
            caller = ANYONE
        elif route.kind is Kind.TOKEN:
            return await guard.token(Call(request, route, query, ANYONE, idle_s), parts.blocking)
        else:
            caller = await guard.admit(request, route, parts.blocking)
        seen["caller"] = caller.name
        call = Call(request, route, query, caller, idle_s)
        if self._proxy is not None and route.repository:
            origin = foreign(upstreams, route.repository)
            if origin is not None:
                return await self._proxy.respond(call, origin)
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
            case Kind.METRICS if self._counts is not None and parts.settings.metrics:
                return answer(
                    200, body=(await self._told(self._counts)).encode(), headers={"Content-Type": exposition.KIND}
                )
        raise Refusal(404, "UNSUPPORTED", "this registry has no such endpoint")

    async def _told(self, counts: metrics.Metrics) -> str:
        """The metrics; the figures of the tables take a while where there is much."""
        return counts.text(await self._parts.blocking(self._parts.gauges))


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
