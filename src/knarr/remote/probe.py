"""The digest that a tag has now, with as little start-up as possible: the question of a warm build.

    digest = head(Reference.parse("registry.example/base:1"), settings, session.credentials)

Loads no `ssl` for plain HTTP, no `tomllib` unless a TOML file is there, no `json`
unless a token is fetched. Ask for many with one `Registry` instead: it keeps its
connections.
"""

from __future__ import annotations

from collections.abc import Callable

from knarr.remote import resolve
from knarr.remote.access import Access
from knarr.remote.settings import RegistrySettings
from knarr.remote.transport import Transport
from knarr.scope import Scope
from knarr.session.session import Credentials
from knarr.spec.digest import Digest
from knarr.spec.reference import Reference


def head(
    reference: Reference,
    settings: RegistrySettings,
    credentials: Callable[[str], Credentials],
    *,
    scope: Scope | None = None,
) -> Digest:
    """The digest of the manifest or index that `reference` names, as its registry says.

    Raises:
        NotFound, RegistryError, Cancelled
    """
    transport = Transport(settings, credentials, scope=scope)
    try:
        access = Access(transport, reference.registry, reference.repository, {})
        return resolve.resolve(access, reference.locator).digest
    finally:
        transport.pool.close()
