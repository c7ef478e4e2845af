"""Sign requests of other machines over HTTPS: cfssl's `authsign`, so that its clients need no change.

    GET  /ca.pem, /crl.pem, /health
    POST /api/v1/cfssl/info
    POST /api/v1/cfssl/authsign    {"token": …, "request": …}: both base64; the token is an HMAC of the request

Who asks must know the shared key, and gets certificates only for names that the
service may give. The service's own certificate is of the authority, and made
anew in time.

Spec: cfssl 1.6, api/signhandler, auth/auth.go (Standard), signer/remote.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from knarr.errors import KnarrError, RegistryError, UsageError
from knarr.pki import files, issue
from knarr.pki.authority import Authority
from knarr.pki.issue import subject_of
from knarr.pki.names import Constraints, Names, of_certificate
from knarr.pki.settings import Subject, Use, Wanted
from knarr.record import record

_MAX_BODY = 256 << 10
_OWN_S = 30 * 86_400
_LOOK_S = 3600.0
_PROFILES = {"": Use.SERVER, "server": Use.SERVER, "www": Use.SERVER, "client": Use.CLIENT, "peer": Use.PEER}


@record
class SigningSettings:
    """How to serve. `own` are the names of the service itself; `permitted` what it signs for."""

    host: str
    port: int
    own: Names
    key: bytes  # shared with those who may ask
    permitted: Constraints
    lifetime_s: int


class SigningService:
    """See the module."""

    def __init__(self, authority: Authority, settings: SigningSettings, *, tell: Callable[[str], object]) -> None:
        """`tell` is given a line for every certificate.

        Raises:
            UsageError: nothing says for which names it may sign.
        """
        if not settings.permitted and not authority.constraints:
            raise UsageError(
                "nothing says for which names certificates may be asked for",
                hint="name the domains and networks with --permit",
            )
        self._authority = authority
        self._settings = settings
        self._tell = tell
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.port = settings.port

    async def serve(self, ready: Callable[[], object]) -> None:
        """Serve until cancelled. `ready` is called when connections are taken; `port` is known then.

        Raises:
            RegistryError: the address cannot be listened on.
        """
        await asyncio.to_thread(self._renew_own)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_get("/health", self._health)
        app.router.add_get("/ca.pem", self._ca)
        app.router.add_get("/crl.pem", self._crl)
        app.router.add_post("/api/v1/cfssl/info", self._info)
        app.router.add_post("/api/v1/cfssl/authsign", self._authsign)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=5.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._settings.host, self._settings.port, ssl_context=self._context)
            try:
                await site.start()
            except OSError as error:
                where = f"{self._settings.host}:{self._settings.port}"
                raise RegistryError(f"cannot listen on {where}: {error.strerror}") from error
            self.port = runner.addresses[0][1]
            ready()
            while True:
                await asyncio.sleep(_LOOK_S)
                if self._own_ends_s - time.time() < _OWN_S / 3:
                    await asyncio.to_thread(self._renew_own)
        finally:
            await runner.cleanup()

    def _renew_own(self) -> None:
        own = self._settings.own
        place = self._authority.directory / "service"
        wanted = Wanted(Subject(common_name=own.common_name), Use.SERVER, _OWN_S)
        key = issue.make_key("ecdsa-p256")
        made = self._authority.issue(wanted, own, now_s=time.time(), key=key, label="service", place=place)
        self._own_ends_s = made.chain[0].not_valid_after_utc.timestamp()
        self._context.load_cert_chain(place / "cert.pem", place / "key.pem")  # for connections from now on

    async def _health(self, request: web.Request) -> web.Response:
        return _success({"healthy": True})

    async def _ca(self, request: web.Request) -> web.Response:
        return web.Response(body=files.pem(self._authority.root), content_type="application/x-pem-file")

    async def _crl(self, request: web.Request) -> web.Response:
        path = self._authority.directory / "crl.pem"
        if not path.exists():
            await asyncio.to_thread(self._authority.renew_crl, now_s=time.time())
        return web.Response(body=path.read_bytes(), content_type="application/x-pem-file")

    async def _info(self, request: web.Request) -> web.Response:
        signer = self._authority.intermediate or self._authority.root
        result = {
            "certificate": files.pem(signer).decode(),
            "usages": ["signing", "key encipherment", "server auth"],
            "expiry": f"{self._settings.lifetime_s // 3600}h",
        }
        return _success(result)

    async def _authsign(self, request: web.Request) -> web.Response:
        try:
            asked = self._authenticated(await request.read())
        except UsageError as error:
            return _failure(400, error.message)
        if asked is None:
            return _failure(401, "the token is wrong")
        try:
            certificate = await asyncio.to_thread(self._sign, asked)
        except KnarrError as error:
            self._tell(f"refused {request.remote}: {error.message}")
            return _failure(403, error.message)
        return _success({"certificate": certificate})

    def _authenticated(self, body: bytes) -> Mapping[str, Any] | None:
        """The request inside; None: its sender does not know the key.

        Raises:
            UsageError: it cannot be read.
        """
        try:
            outer = json.loads(body)
            token = base64.b64decode(outer["token"], validate=True)
            inner = base64.b64decode(outer["request"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise UsageError("the body is a document with token and request, both in base64") from error
        if not hmac.compare_digest(token, hmac.new(self._settings.key, inner, hashlib.sha256).digest()):
            return None
        try:
            asked = json.loads(inner)
        except ValueError as error:
            raise UsageError("the request is not JSON") from error
        if not isinstance(asked, dict) or not isinstance(asked.get("certificate_request"), str):
            raise UsageError("the request has no certificate_request")
        return asked

    def _sign(self, asked: Mapping[str, Any]) -> str:
        request = files.request(asked["certificate_request"].encode(), where="certificate_request")
        hosts = asked.get("hosts") or [host for host in str(asked.get("hostname") or "").split(",") if host]
        names = Names.parse(map(str, hosts)) if hosts else of_certificate(request)
        refused = self._settings.permitted.refused(names)
        if refused:
            raise UsageError(f"this service may not sign for {', '.join(refused)}")
        profile = str(asked.get("profile") or "")
        if profile not in _PROFILES:
            raise UsageError(f"there is no profile {profile!r}", hint="ask for " + ", ".join(filter(None, _PROFILES)))
        wanted = Wanted(subject_of(request.subject), _PROFILES[profile], self._settings.lifetime_s)
        made = self._authority.issue(wanted, names, now_s=time.time(), request=request)
        self._tell(f"signed {made.label}, serial {made.chain[0].serial_number:x}")
        return files.pem(*made.chain).decode()


def shared_key(path: Path) -> bytes:
    """The key in a file, in hexadecimal digits as cfssl has it; made if there is no file.

    Raises:
        UsageError: it is no such key, or shorter than 16 bytes.
    """
    if not path.exists():
        files.write(path, hashlib.sha256(ssl.RAND_bytes(64)).hexdigest().encode() + b"\n", mode=files.SECRET)
    try:
        key = bytes.fromhex(files.read(path).decode().strip())
    except ValueError as error:
        raise UsageError(f"{path}: not a key in hexadecimal digits") from error
    if len(key) < 16:
        raise UsageError(
            f"{path}: a key of {len(key)} bytes can be guessed", hint="use 16 or more: openssl rand -hex 32"
        )
    return key


def _success(result: object) -> web.Response:
    return web.json_response({"success": True, "result": result, "errors": [], "messages": []})


def _failure(status: int, message: str) -> web.Response:
    errors = [{"code": status, "message": message}]
    return web.json_response({"success": False, "result": None, "errors": errors, "messages": []}, status=status)
