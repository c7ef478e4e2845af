"""The way to one repository: its endpoints, asked in order until one answers.

A mirror gets one try, the registry itself (the last) the whole budget. A mirror
that could not be reached rests a while, so that fifty layers do not wait for it
fifty times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from knarr.errors import NotFound, RegistryError, UsageError
from knarr.remote import auth
from knarr.remote.hosts import PUSH, Endpoint
from knarr.remote.transport import Request, Transport
from knarr.remote.url import Origin, Url
from knarr.remote.wire import Answer

T = TypeVar("T")


class Access:
    """Requests to `registry`/`repository`; may be used from any thread."""

    def __init__(self, transport: Transport, registry: str, repository: str, resting: dict[Origin, float]) -> None:
        self.transport = transport
        self.registry = registry
        self.repository = repository
        self.lacks_referrers = False  # the registry was seen to have no referrers API
        self._resting = resting  # mirrors by the time until which they are passed over; shared by a client

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    def first(self, capability: str, ask: Callable[[Endpoint, int], T]) -> T:
        """What `ask(endpoint, attempts)` gives at the first endpoint that has it.

        Raises:
            NotFound, RegistryError: of the last endpoint; what its mirrors said is added.
            UsageError: the configuration leaves no endpoint for this.
        """
        endpoints = self.endpoints(capability)
        said = []
        for endpoint in endpoints[:-1]:
            host = endpoint.origin.netloc
            if self._resting.get(endpoint.origin, 0.0) > time.monotonic():
                said.append(f"{host} rests after a failure")
                continue
            try:
                return ask(endpoint, 1)
            except (NotFound, RegistryError) as error:
                said.append(f"{host}: {error.message}")
                if isinstance(error, RegistryError) and error.status == 0:
                    self._resting[endpoint.origin] = time.monotonic() + self.transport.settings.mirror_rest_s
        try:
            return ask(endpoints[-1], 0)
        except (NotFound, RegistryError) as error:
            raise error.with_context(mirrors="; ".join(said)) from error.__cause__

    def endpoints(self, capability: str) -> list[Endpoint]:
        """Those that have `capability`, in the order in which they are to be asked.

        Raises:
            UsageError: the configuration leaves none.
        """
        found = [
            e for e in self.transport.hosts.endpoints(self.registry, self.repository) if capability in e.capabilities
        ]
        if not found:
            raise UsageError(
                f"{self.registry}: no endpoint is configured for {capability}",
                hint=f"see the capabilities in hosts.toml for {self.registry}",
            )
        return found

    def writer(self) -> Endpoint:
        """The endpoint that takes pushes."""
        return self.endpoints(PUSH)[0]

    def send(
        self,
        endpoint: Endpoint,
        method: str,
        target: str | Url,
        what: str,
        *expect: int,
        scopes: auth.Scopes | None = None,
        **more: Any,  # the other members of Request
    ) -> Answer:
        """One request about this repository (rights: pull, unless `scopes` says more)."""
        rights = auth.pull(self.repository) if scopes is None else scopes
        request = Request(method, target, what, self.repository, rights, frozenset(expect), **more)
        return self.transport.send(endpoint, request)

    def fetch(
        self,
        endpoint: Endpoint,
        target: str | Url,
        what: str,
        *expect: int,
        limit: int,
        scopes: auth.Scopes | None = None,
        **more: Any,
    ) -> tuple[Answer, bytes]:
        """A GET whose whole answer is at most `limit` bytes."""
        rights = auth.pull(self.repository) if scopes is None else scopes
        request = Request("GET", target, what, self.repository, rights, frozenset(expect), **more)
        return self.transport.fetch(endpoint, request, limit)
