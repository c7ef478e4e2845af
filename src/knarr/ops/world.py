"""What every op is handed: the parts of the engine, the caller's session, and this build's scope and sink."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from knarr.cache.record import RecordId
from knarr.errors import KnarrError, Remains
from knarr.progress import Sink
from knarr.record import field, record
from knarr.scope import Scope
from knarr.session.session import Session

if TYPE_CHECKING:
    from knarr.cache.sharedmounts import SharedMount
    from knarr.cache.store import CacheStore
    from knarr.config import Settings
    from knarr.content.store import Store
    from knarr.ops.copytree import Tree
    from knarr.remote.repository import Registry
    from knarr.runtime.runner import Runtime
    from knarr.snapshot.snapshotter import Snapshotter


class Active(Protocol):
    """A writable tree, mounted at `root` while its context lasts."""

    root: str
    committed: bool

    def commit(self, name: RecordId) -> RecordId:
        """Make it immutable under `name`, unmounting it. Nothing else may use `root` afterwards."""
        ...


class Trees(Protocol):
    """Records as trees: see `ops.trees`."""

    def active(self, parent: RecordId | None) -> AbstractContextManager[Active]:
        """A writable tree on top of `parent`, dropped unless committed."""
        ...

    def readable(self, record: RecordId | None) -> AbstractContextManager[Tree]:
        """The tree of a record, or the caller's directory for a local source, for reading."""
        ...

    def mounted(self, record: RecordId | None) -> AbstractContextManager[Path]:
        """The tree of a record, mounted read-only."""
        ...

    def keep(self, active: Active) -> RecordId:
        """Make a tree that will not be a result immutable: it lasts as long as the build."""
        ...

    def lend(self, record: RecordId, tree: Tree) -> None:
        """Make the caller's directory known as the tree of `record` for this build."""
        ...

    def materialised(self, record: RecordId | None) -> RecordId | None:
        """A record with the same tree that is a snapshot: itself, or a copy of what a caller lent."""
        ...


@record
class World:
    """The parts of one build, as ops see them. `registry` and `runtime` are made on first use.

    `mount_seeds` are asked what a cache mount that is not here yet begins with, by its key. `keeps_remains`:
    somebody may want to see what a failed step leaves, so that its trees last as long as the build.
    """

    settings: Settings
    store: Store
    cache: CacheStore
    snapshotter: Snapshotter
    trees: Trees
    session: Session
    scope: Scope
    sink: Sink
    registry: Callable[[], Registry]
    runtime: Callable[[], Runtime]
    mount_seeds: list[Callable[[str], SharedMount | None]] = field(default_factory=list, hash=False)
    answers: dict[str, Any] = field(default_factory=dict, hash=False)  # of servers: a build asks each of them once
    keeps_remains: bool = False


@contextmanager
def leaving(world: World, remains: Callable[[], Remains]) -> Iterator[None]:
    """A failure in the block takes along what `remains` gives, while all is mounted still.

    Only where somebody may ask for it; what cannot be kept hides nothing of the failure itself.
    """
    try:
        yield
    except KnarrError as error:
        if world.keeps_remains:
            with suppress(KnarrError, OSError):
                error.remains = remains()
        raise
