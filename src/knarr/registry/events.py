"""What happened to a repository: told to whoever listens, after it is on the disk."""

from __future__ import annotations

from collections.abc import Callable

from knarr.record import record
from knarr.spec import mediatype

ACTIONS = ("push", "pull", "mount", "delete")


@record
class Event:
    """A push, pull, mount or delete that succeeded."""

    action: str  # one of ACTIONS
    repository: str
    digest: str
    media_type: str = ""
    size: int = 0  # bytes
    tag: str = ""
    caller: str = ""  # the login, or ""

    @property
    def is_manifest(self) -> bool:
        return self.media_type in (*mediatype.MANIFESTS, *mediatype.INDEXES)


class Events:
    """The listeners. They are called in the event loop, and must not block."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Event], object]] = []

    def listen(self, listener: Callable[[Event], object]) -> None:
        self._listeners.append(listener)

    def tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
