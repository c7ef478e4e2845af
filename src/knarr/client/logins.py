"""Logins for registries, lent so that passwords stay here.

A builder that knows how asks for tokens: we then log in at the registry's token
server, and it gets a token for one repository and a while. By a key it sees that a
later session is of the same user, and may use a token again. Where the server is, is
asked of the registry itself: a builder that names another would get our password.

Spec: BuildKit's session/auth and its authprovider; NaCl's crypto_sign for the signature.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from knarr.buildkit.failure import Told
from knarr.errors import KnarrError
from knarr.pb import auth_pb2 as pb
from knarr.pb.status_pb2 import Status
from knarr.record import record
from knarr.session.session import Credentials, Session

if TYPE_CHECKING:
    import grpc

_UNAVAILABLE = 14  # of google.rpc.Code: by which a builder knows that it has to ask for the login
_HUB = {"registry-1.docker.io": "docker.io", "index.docker.io": "docker.io"}
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


@record
class Token:
    """A bearer token; `seconds` is how long it holds from `issued_s` (since 1970; 0: now)."""

    value: str
    seconds: int = 0
    issued_s: int = 0

    def __repr__(self) -> str:
        return "Token(****)"


class TokenSource(Protocol):
    """Who fetches tokens from registries' token servers, and vouches for this user with a key."""

    def gives(self, host: str) -> bool:
        """Whether the registry `host` has a token server and can be asked."""
        ...

    def fetch(self, host: str, scopes: tuple[str, ...]) -> Token:
        """A token for `scopes` (`repository:team/app:pull,push`).

        Raises:
            RegistryError: the registry or its token server says no.
        """
        ...

    def public_key(self, host: str, login: Credentials, salt: bytes) -> bytes:
        """The key of this user for a registry, of a builder that uses `salt`."""
        ...

    def sign(self, host: str, login: Credentials, salt: bytes, payload: bytes) -> bytes:
        """`payload` with a signature before it, made with that key."""
        ...


class Logins:
    """Serves `Auth`."""

    def __init__(self, session: Session, tokens: TokenSource | None) -> None:
        self._session = session
        self._tokens = None if os.environ.get("BUILDKIT_NO_CLIENT_TOKEN", "") in _TRUE else tokens

    def credentials(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self._login(request.Host)
        if found.identity_token:
            return pb.CredentialsResponse(Secret=found.identity_token)
        return pb.CredentialsResponse(Username=found.username, Secret=found.password)

    def fetch_token(self, request: Any, context: grpc.ServicerContext) -> Any:
        found = self._login(request.Host)
        if found.registry_token:
            return pb.FetchTokenResponse(Token=found.registry_token, ExpiresIn=60)
        token = self._source(request.Host).fetch(_registry(request.Host), tuple(request.Scopes))
        return pb.FetchTokenResponse(Token=token.value, ExpiresIn=token.seconds, IssuedAt=token.issued_s)

    def get_token_authority(self, request: Any, context: grpc.ServicerContext) -> Any:
        host = _registry(request.Host)
        key = self._source(request.Host).public_key(host, self._login(request.Host), request.Salt)
        return pb.GetTokenAuthorityResponse(PublicKey=key)

    def verify_token_authority(self, request: Any, context: grpc.ServicerContext) -> Any:
        host = _registry(request.Host)
        signed = self._source(request.Host).sign(host, self._login(request.Host), request.Salt, request.Payload)
        return pb.VerifyTokenAuthorityResponse(Signed=signed)

    def _login(self, host: str) -> Credentials:
        return self._session.credentials(_registry(host))

    def _source(self, host: str) -> TokenSource:
        try:
            if self._tokens is not None and self._tokens.gives(_registry(host)):
                return self._tokens
        except KnarrError as error:
            raise Told(f"no tokens for {host}: {error.message}", status=Status(code=_UNAVAILABLE)) from error
        raise Told(f"no tokens for {host}", status=Status(code=_UNAVAILABLE))


def _registry(host: str) -> str:
    return _HUB.get(host, host)
