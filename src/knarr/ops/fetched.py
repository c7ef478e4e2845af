"""What a source that lies elsewhere (a URL, a git repository) was found to be, before it is a tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from knarr.cache.record import RecordId
from knarr.record import field, record

if TYPE_CHECKING:
    from knarr.config import Settings
    from knarr.content.store import Store
    from knarr.progress import Sink
    from knarr.remote.repository import Registry
    from knarr.scope import Scope
    from knarr.session.session import Session


class Reach(Protocol):
    """The part of a `World` that asking and fetching need; only making a tree needs more."""

    @property
    def settings(self) -> Settings: ...
    @property
    def store(self) -> Store: ...
    @property
    def session(self) -> Session: ...
    @property
    def scope(self) -> Scope: ...
    @property
    def sink(self) -> Sink: ...
    @property
    def registry(self) -> Callable[[], Registry]: ...
    @property
    def answers(self) -> dict[str, Any]: ...


@record
class Fetched:
    """`key` names the content; `make(name)` commits it as a tree under that name, and may fetch it only then.

    `pinned`: the definition itself says which content it is, so that asking again can give nothing else.
    `shared_key` is what BuildKit calls it. `pin` says what it is: a file's digest, a commit.
    """

    key: str
    make: Callable[[RecordId], RecordId] = field(repr=False)
    pinned: bool = False
    shared_key: str = ""
    pin: str = ""
