"""The `Session` protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from knarr.record import record


@record
class Secret:
    """A secret's value. Its repr hides it: a secret must never reach a log."""

    value: bytes

    def __repr__(self) -> str:
        return "Secret(****)"


@record
class Credentials:
    """A login for a registry host: a user and a password, or an identity token for a token server."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""  # a bearer token to send as it is

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, …)"

    @property
    def empty(self) -> bool:
        return not (self.username or self.password or self.identity_token or self.registry_token)


class Session(Protocol):
    """The caller of a build, as the ops see it. Methods may be called from any thread."""

    def directory(self, name: str) -> Path:
        """The local directory lent under `name` (`context`, `dockerfile`, a named context).

        Raises:
            UsageError: no such name was lent.
        """
        ...

    def secret(self, id: str) -> Secret | None:
        """The secret, or None when the caller has none by this id."""
        ...

    def credentials(self, host: str) -> Credentials:
        """The login for a registry host (`Credentials()` when there is none)."""
        ...
