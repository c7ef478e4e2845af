"""Which other registries this one is a cache of, and which repository of theirs a path means. Pure.

A repository of an upstream is called by the upstream's prefix and its own name:
`docker.io/library/busybox`. Clients say which they mean by the path, or, as
containerd does, by `?ns=docker.io` and the plain path. An upstream that is not
named in the settings is never asked: a registry that goes wherever `ns` says is
an open relay.

Spec: distribution-spec, main branch of July 2026, "Registry Proxying" (`ns`).
"""

from __future__ import annotations

from collections.abc import Sequence

from knarr.record import record, replace
from knarr.registry.refusal import Refusal
from knarr.registry.routes import Route
from knarr.registry.rules import matches


@record
class Upstream:
    """One registry to fetch from: `host`, as references call it. Trust and logins come from where builds find them."""

    host: str
    prefix: str = ""  # of its repositories here; "": the host's name
    repositories: tuple[str, ...] = ("**",)  # those of its repositories that may be fetched
    fresh_s: float = 300.0  # how long a tag is served without asking again

    @property
    def place(self) -> str:
        return self.prefix or self.host


@record
class Foreign:
    """A repository of an upstream."""

    upstream: Upstream
    name: str  # as the upstream calls it

    @property
    def reference(self) -> str:
        return f"{self.upstream.host}/{self.name}"


def localised(upstreams: Sequence[Upstream], route: Route, ns: str, own_host: str) -> Route:
    """The route with the repository's name as it is called here, which `ns` may have left out.

    Raises:
        Refusal: `ns` names a registry that is not served here.
    """
    if not ns or not route.repository or not upstreams or ns == own_host:
        return route
    for upstream in upstreams:
        if ns == upstream.host:
            return replace(route, repository=f"{upstream.place}/{route.repository}")
    raise Refusal(403, "DENIED", "this registry is no cache of that one", detail={"ns": ns[:255]})


def foreign(upstreams: Sequence[Upstream], repository: str) -> Foreign | None:
    """The upstream's repository that `repository` stands for; None: it is one of our own.

    Raises:
        Refusal: the upstream is known, and this repository of it is not allowed.
    """
    for upstream in upstreams:
        if repository.startswith(upstream.place + "/"):
            name = repository[len(upstream.place) + 1 :]
            if not any(matches(pattern, name) for pattern in upstream.repositories):
                raise Refusal(
                    403, "DENIED", "this registry does not fetch that repository", detail={"name": repository}
                )
            return Foreign(upstream, name)
    return None
