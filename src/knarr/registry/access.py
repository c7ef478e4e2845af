"""From a request to its caller: certificate, Basic, Bearer, or nobody; and the answer to who may not.

Every request is asked for the rights it needs before anything else is looked at,
so that who may not read a repository cannot tell whether it exists.

Spec: RFC 9110, "HTTP Authentication"; RFC 6750; distribution's token authentication; distribution-spec v1.1,
"Pull" to "Content Management" (which endpoint needs which right).
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from aiohttp import web

from knarr.record import record
from knarr.registry.call import JSON, Call, answer
from knarr.registry.passwords import Passwords
from knarr.registry.refusal import Refusal, not_allowed
from knarr.registry.rights import ACTIONS, DELETE, PULL, PUSH, Caller
from knarr.registry.routes import Kind, Query, Route
from knarr.registry.rules import Rules
from knarr.registry.tokens import Claim, Tokens, scopes

_REFRESH_S = 30 * 24 * 3600
_MAX_FORM = 64 << 10
_READS = ("GET", "HEAD")

Blocking = Callable[..., Awaitable[bool]]


@record
class Guard:
    """How callers are known on one server. `realm` is the token service's URL; "": made from the request's host."""

    rules: Rules
    passwords: Passwords
    tokens: Tokens | None
    realm: str = ""

    async def admit(self, request: web.BaseRequest, route: Route, blocking: Blocking) -> Caller:
        """Who asks, if the request is allowed.

        Raises:
            Refusal: 401 for who should log in, 403 for who has, and may not.
        """
        caller, is_proven = await self._identify(request, blocking)
        needed = needs(route, request.method)
        if all(caller.may(action, route.repository) for action in needed):
            if route.kind in (Kind.BASE, Kind.CATALOG, Kind.EXTENSIONS, Kind.METRICS) and not (
                is_proven or self._lets_anyone_in(route)
            ):
                raise self._challenge(request, route, needed)
            return caller
        if is_proven and not self._wants_another_token(request):
            raise Refusal(403, "DENIED", f"{caller.name} may not do this", detail=_detail(route, needed))
        raise self._challenge(request, route, needed)

    async def _identify(self, request: web.BaseRequest, blocking: Blocking) -> tuple[Caller, bool]:
        """The caller, and whether it is somebody. A proof that fails is never taken for none."""
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        scheme = scheme.lower()
        if scheme == "basic":
            name = await self.log_in(rest.strip(), blocking)
            if name is None:
                raise self._unauthorized(request, "the login or password is wrong")
            return self.rules.caller(name), True
        if scheme == "bearer" and self.tokens is not None:
            claim = self.tokens.read(rest.strip())
            if claim is None or claim.refresh:
                raise self._unauthorized(request, "the token is expired or not valid here", error="invalid_token")
            return self._bearer(claim), True
        certificate = _certificate_name(request)
        if certificate:
            return self.rules.caller(f"cert:{certificate}"), True
        return self.rules.caller(""), False

    async def log_in(self, encoded: str, blocking: Blocking) -> str | None:
        """The name in Basic credentials, if the password is right."""
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return name if await blocking(self.passwords.check, name, password) else None

    def known(self, username: str, password: str, *, refresh: str = "", access: str = "") -> Caller | None:
        """The caller with this login, None if it is wrong; without any it is nobody in particular.

        `refresh` and `access` are tokens of this registry's own. Blocks, now and then for a tenth of a second.
        """
        if access or refresh:
            claim = self.tokens.read(access or refresh) if self.tokens is not None else None
            if claim is None or claim.refresh is bool(access):
                return None
            if access:
                return self._bearer(claim)
            return self.rules.caller(claim.name) if self._goes_on(claim) else None
        if username or password:
            return self.rules.caller(username) if self.passwords.check(username, password) else None
        return self.rules.caller("")

    def _bearer(self, claim: Claim) -> Caller:
        current = self.rules.caller(claim.name)

        def may(action: str, repository: str) -> bool:
            return action in claim.access.get(repository, ()) and current.may(action, repository)

        return Caller(claim.name or "anonymous", may, reads=current.reads)

    def _goes_on(self, claim: Claim) -> bool:
        """Whether the account behind a token is still there; those of certificates are not known here."""
        return self.passwords.knows(claim.name) or ":" in claim.name

    def _lets_anyone_in(self, route: Route) -> bool:
        """The base tells clients to log in, even where some repositories are open; the catalog filters itself."""
        return route.kind is Kind.CATALOG and self.rules.has_anonymous

    def _wants_another_token(self, request: web.BaseRequest) -> bool:
        """A token only grants what was asked for: its holder may ask for more."""
        return request.headers.get("Authorization", "")[:7].lower() == "bearer "

    def _challenge(self, request: web.BaseRequest, route: Route, needed: tuple[str, ...]) -> Refusal:
        scope = f"repository:{route.repository}:{','.join(needed)}" if route.repository else ""
        if route.kind is Kind.CATALOG:
            scope = "registry:catalog:*"
        return self._unauthorized(request, "authentication required", scope=scope, detail=_detail(route, needed))

    def _unauthorized(
        self, request: web.BaseRequest, message: str, *, scope: str = "", error: str = "", detail: object = None
    ) -> Refusal:
        if self.tokens is None:
            header = 'Basic realm="knarr registry", charset="UTF-8"'
        else:
            realm = self.realm or f"{request.scheme}://{request.host}/token"
            header = f'Bearer realm="{realm}",service="{self.tokens.service}"'
            header += f',scope="{scope}"' if scope else ""
            header += f',error="{error}"' if error else ""
        return Refusal(401, "UNAUTHORIZED", message, detail=detail, headers={"WWW-Authenticate": header})

    async def token(self, call: Call, blocking: Blocking) -> web.Response:
        """The token service. GET with Basic, or POST of a form, as in OAuth 2.

        Raises:
            Refusal: the login is wrong.
        """
        if self.tokens is None:
            raise Refusal(404, "UNSUPPORTED", "this registry gives no tokens")
        request = call.request
        if call.method == "GET":
            name = await self._token_by_get(request, blocking)
            wants_refresh = call.first("offline_token") == "true"
            asked = scopes(call.all("scope"))
        elif call.method == "POST":
            form: Query = [
                (k, v) for k, vs in parse_qs((await call.body(_MAX_FORM)).decode(errors="replace")).items() for v in vs
            ]
            fields = dict(form)
            name = await self._token_by_form(request, fields, blocking)
            wants_refresh = fields.get("access_type") == "offline"
            asked = scopes(value for key, value in form if key == "scope")
        else:
            raise not_allowed(call.method, "GET", "POST")
        rights = self.rules.caller(name)
        access = {
            repository: granted
            for repository, actions in asked.items()
            if (granted := tuple(action for action in actions if rights.may(action, repository)))
        }
        token = self.tokens.issue(name, access)
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        document = {"token": token, "access_token": token, "expires_in": self.tokens.ttl_s, "issued_at": issued}
        if wants_refresh and name:
            document["refresh_token"] = self.tokens.issue_refresh(name, _REFRESH_S)
        return answer(200, body=json.dumps(document).encode(), kind=JSON, headers={"Cache-Control": "no-store"})

    async def _token_by_get(self, request: web.BaseRequest, blocking: Blocking) -> str:
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            certificate = _certificate_name(request)
            return f"cert:{certificate}" if certificate else ""
        name = await self.log_in(rest.strip(), blocking) if scheme.lower() == "basic" else None
        if name is None:
            raise _wrong_login()
        return name

    async def _token_by_form(self, request: web.BaseRequest, fields: dict[str, str], blocking: Blocking) -> str:
        assert self.tokens is not None
        kind = fields.get("grant_type", "")
        if kind == "password":
            name = fields.get("username", "")
            if await blocking(self.passwords.check, name, fields.get("password", "")):
                return name
        elif kind == "refresh_token":
            claim = self.tokens.read(fields.get("refresh_token", ""))
            if claim is not None and claim.refresh and self._goes_on(claim):
                return claim.name
        else:
            raise Refusal(400, "UNSUPPORTED", "grant_type must be password or refresh_token")
        raise _wrong_login()


def needs(route: Route, method: str) -> tuple[str, ...]:
    """The rights that a request needs on its repository."""
    if not route.repository:
        return ()
    if route.kind in (Kind.UPLOADS, Kind.UPLOAD):
        return (PULL, PUSH)
    if method in _READS:
        return (PULL,)
    if method == "DELETE":
        return (DELETE,)
    return (PULL, PUSH)


def _certificate_name(request: web.BaseRequest) -> str:
    """The common name of the client's certificate, which TLS has verified; "" without one."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    for part in (certificate or {}).get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return str(value)
    return ""


def _wrong_login() -> Refusal:
    header = {"WWW-Authenticate": 'Basic realm="knarr registry", charset="UTF-8"'}
    return Refusal(401, "UNAUTHORIZED", "the login or password is wrong", headers=header)


def _detail(route: Route, needed: tuple[str, ...]) -> list[dict[str, str]]:
    return [
        {"Type": "repository", "Name": route.repository, "Action": action} for action in needed if action in ACTIONS
    ]
