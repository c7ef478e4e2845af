"""Tokens for registries, fetched by the client: it logs in where it is told to, and we never see its password.

Every session shows a key for a registry, made with a salt of ours. One that proves to have
the key of an earlier session is of the same user, and what that one fetched serves it, too.

Spec: BuildKit's session/auth and util/resolver/authorizer.go.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from knarr.buildkit.failure import failure_of
from knarr.errors import KnarrError
from knarr.pb import auth_pb2 as pb
from knarr.record import record
from knarr.session import tokenkey
from knarr.session.session import IssuedToken

if TYPE_CHECKING:
    from knarr.buildkit.service import Caller
    from knarr.buildkit.sessions import Client
    from knarr.scope import Scope

AUTH = pb.DESCRIPTOR.services_by_name["Auth"]
_ANSWER_S = 60.0  # BuildKit's: a helper of the client's may ask a person
_SHORTEST_S = 60
_EARLY_S = 10  # given up before its end: it must last from here to the registry's clock
_MANY = 1000  # tokens that are remembered
_NO = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)  # words by which a client asks for the other way


@record
class _Kept:
    token: IssuedToken
    ends_at: float


class Wallet:
    """What the clients of one daemon have fetched, by the keys they showed. Safe from several threads."""

    def __init__(self) -> None:
        self.salt = os.urandom(32)
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, bytes, tuple[str, ...]], _Kept] = {}

    def find(self, host: str, key: bytes, scopes: tuple[str, ...]) -> IssuedToken | None:
        """A token that still holds."""
        with self._lock:
            found = self._tokens.get((host, key, scopes))
            return found.token if found is not None and found.ends_at > time.monotonic() else None

    def keep(self, host: str, key: bytes, scopes: tuple[str, ...], token: IssuedToken) -> None:
        """Remember a token until it ends."""
        now = time.monotonic()
        with self._lock:
            if len(self._tokens) >= _MANY:
                self._tokens = {at: kept for at, kept in self._tokens.items() if kept.ends_at > now}
                if len(self._tokens) >= _MANY:
                    self._tokens.clear()
            self._tokens[host, key, scopes] = _Kept(token, now + token.seconds - _EARLY_S)


class ClientTokens:
    """Tokens that one session's client fetches."""

    def __init__(self, client: Callable[[], Client], wallet: Wallet, scope: Scope) -> None:
        self._client = client
        self._wallet = wallet
        self._scope = scope
        self._lock = threading.Lock()
        self._keys: dict[str, bytes] = {}  # by host; empty: the client lends its login instead

    def issues(self, host: str) -> bool:
        """Whether the client fetches tokens for the registry `host`."""
        return bool(self._key(host))

    def issue(self, host: str, realm: str, service: str, scopes: Sequence[str]) -> IssuedToken:
        """A token for `scopes`.

        Raises:
            KnarrError: the client cannot have one, and says why.
        """
        wanted, key = tuple(scopes), self._key(host)
        known = self._wallet.find(host, key, wanted)
        if known is not None:
            return known
        request = pb.FetchTokenRequest(ClientID="knarr", Host=host, Realm=realm, Service=service, Scopes=wanted)
        answer = self._call(self._client().caller(AUTH), "FetchToken", request)
        if not answer.Token:
            raise KnarrError(f"the client gave an empty token for {host}", hint="see its login: knarr login HOST")
        token = IssuedToken(answer.Token, self._seconds(answer))
        self._wallet.keep(host, key, wanted, token)
        return token

    def _seconds(self, answer: Any) -> int:
        life = int(answer.ExpiresIn) or _SHORTEST_S
        if answer.IssuedAt:
            life -= max(0, int(time.time()) - int(answer.IssuedAt))
        return max(life, 1)

    def _key(self, host: str) -> bytes:
        with self._lock:
            if host in self._keys:
                return self._keys[host]
        key = self._shown(host)
        with self._lock:
            self._keys[host] = key
        return key

    def _shown(self, host: str) -> bytes:
        """The key that the client shows and has; empty when it does not fetch tokens."""
        client = self._client()
        if not client.offers(AUTH, "GetTokenAuthority") or not client.offers(AUTH, "FetchToken"):
            return b""
        caller = client.caller(AUTH)
        salt = self._wallet.salt
        try:
            key = bytes(
                self._call(caller, "GetTokenAuthority", pb.GetTokenAuthorityRequest(Host=host, Salt=salt)).PublicKey
            )
            payload = os.urandom(32)
            request = pb.VerifyTokenAuthorityRequest(Host=host, Salt=salt, Payload=payload)
            signed = bytes(self._call(caller, "VerifyTokenAuthority", request).Signed)
        except _Declined:
            return b""
        if tokenkey.opened(key, signed) != payload:
            raise KnarrError(f"the client shows a key for {host} that is not its own")
        return key

    def _call(self, caller: Caller, name: str, message: Any) -> Any:
        call = caller.begin(name, message, timeout_s=_ANSWER_S)
        with self._scope.on_cancel(call.cancel):
            try:
                return call.result()
            except grpc.FutureCancelledError:
                self._scope.check()
                raise KnarrError("the client has left") from None
            except grpc.RpcError as error:
                self._scope.check()
                told: Any = error
                if name != "FetchToken" and told.code() in _NO:
                    raise _Declined from None
                raise failure_of(error) from None


class _Declined(Exception):
    """The client lends its login and fetches no tokens."""
