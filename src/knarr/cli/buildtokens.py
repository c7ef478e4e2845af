"""Tokens for a builder, fetched with this user's logins, which it does not see."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.client.logins import Token
from knarr.client.stored import directory
from knarr.session import tokenkey

if TYPE_CHECKING:
    from knarr.client.logins import TokenSource
    from knarr.remote.repository import Registry
    from knarr.remote.tokens import Tokens
    from knarr.session.session import Credentials

_TRUE = ("1", "t", "T", "true", "TRUE", "True")


def registry_client(stack: ExitStack) -> Registry:
    """A client with this user's logins, closed with `stack`."""
    from knarr.remote.repository import Registry
    from knarr.remote.settings import RegistrySettings
    from knarr.session.dockerconfig import DockerConfig

    settings = RegistrySettings.from_environment(os.environ)
    return stack.enter_context(Registry(settings, DockerConfig.from_environment(os.environ).credentials))


def token_source(stack: ExitStack) -> TokenSource | None:
    """Who fetches tokens for the builder; None: it is to be told the logins, as BuildKit's variable says."""
    if os.environ.get("BUILDKIT_NO_CLIENT_TOKEN", "") in _TRUE:
        return None
    return _Tokens(stack)


class _Tokens:
    """Implements `client.logins.TokenSource` with this user's logins; loaded when a builder asks."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._lock = threading.Lock()

    @cached_property
    def _source(self) -> Tokens:
        from knarr.remote.tokens import Tokens

        return Tokens(registry_client(self._stack).transport)

    @cached_property
    def _seed(self) -> bytes:
        place = directory(os.environ)
        return tokenkey.read_seed(Path(place, "token_seed")) if place else os.urandom(tokenkey.SEED_BYTES)

    def gives(self, host: str) -> bool:
        with self._lock:
            source = self._source
        return source.gives(host)

    def fetch(self, host: str, scopes: tuple[str, ...]) -> Token:
        return Token(*self._source.fetch(host, scopes))

    def public_key(self, host: str, login: Credentials, salt: bytes) -> bytes:
        return tokenkey.public_key(self._seed, host, login, salt)

    def sign(self, host: str, login: Credentials, salt: bytes, payload: bytes) -> bytes:
        return tokenkey.sign(self._seed, host, login, salt, payload)
