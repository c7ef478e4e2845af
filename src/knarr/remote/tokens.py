"""Tokens for others: fetched from a registry's token server with a login that stays here.

Which server that is, the registry itself is asked; a name that somebody else gives
would be told the password.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

from knarr.errors import RegistryError
from knarr.remote import auth
from knarr.remote.challenge import parse
from knarr.remote.hosts import Endpoint
from knarr.remote.transport import Request, Transport

_SHORTEST_S = 60  # distribution: the life of a token whose server does not say it


class Granted(NamedTuple):
    """A bearer token, and for how many seconds it holds from `issued_s` (seconds since 1970; 0: not said)."""

    value: str
    seconds: int
    issued_s: int = 0

    def __repr__(self) -> str:
        return "Granted(****)"


class Tokens:
    """Token servers of registries, asked through `transport`. Safe from several threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._ways: dict[str, auth.Way | None] = {}

    def gives(self, host: str) -> bool:
        """Whether the registry `host` (a registry's name) sends people to a token server.

        Raises:
            RegistryError: it cannot be reached.
        """
        return self._way(host) is not None

    def fetch(self, host: str, scopes: tuple[str, ...]) -> Granted:
        """A token for `scopes`, texts like `repository:team/app:pull,push`.

        Raises:
            RegistryError: the registry cannot be reached, has no token server, or that one says no.
        """
        way = self._way(host)
        if way is None:
            raise RegistryError(f"{host} has no token server")
        document = self._transport.auth.ask(self._endpoint(host), way, auth.scopes_of(" ".join(scopes)))
        value = auth.token_in(self._endpoint(host), document)
        seconds, issued = document.get("expires_in"), document.get("issued_at")
        return Granted(value, seconds if isinstance(seconds, int) and seconds > 0 else _SHORTEST_S, _seconds(issued))

    def _endpoint(self, host: str) -> Endpoint:
        return self._transport.hosts.endpoints(host)[-1]

    def _way(self, host: str) -> auth.Way | None:
        with self._lock:
            if host in self._ways:
                return self._ways[host]
        request = Request("GET", "/", f"access to {host}", expect=frozenset((200, 401)))
        endpoint = self._endpoint(host)
        with self._transport.send_unauthorized(endpoint, request) as answer:
            challenges = answer.headers.all("www-authenticate")
            bearer = next((c for c in parse(challenges) if c.scheme == "bearer" and c.params.get("realm")), None)
        way = auth.Way("bearer", bearer.params["realm"], bearer.params.get("service", "")) if bearer else None
        with self._lock:
            self._ways[host] = way
        return way


def _seconds(text: object) -> int:
    """A time as token servers tell it (RFC 3339) in seconds since 1970; 0 when it cannot be read."""
    if not isinstance(text, str):
        return 0
    from datetime import datetime

    try:
        return int(datetime.fromisoformat(text[:19] + "+00:00").timestamp()) if len(text) >= 19 else 0
    except ValueError:
        return 0
