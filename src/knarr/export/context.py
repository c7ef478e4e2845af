"""What exporters work with: the result, where its content is, and where they tell what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from knarr.cache.record import RecordId
from knarr.config import Settings
from knarr.content.store import Store
from knarr.export.trees import Trees
from knarr.frontend.request import FrontendResult
from knarr.progress import Sink, Status, VertexDone, VertexStarted
from knarr.scope import Scope

if TYPE_CHECKING:
    from knarr.remote.repository import Registry


@dataclass(frozen=True, slots=True)
class ExportContext:
    """The world of an export. `now_ns` is the build's time."""

    settings: Settings
    store: Store
    registry: Callable[[], Registry]
    scope: Scope
    sink: Sink
    now_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True)
class Result:
    """What was built: the frontend's answer, and the record of each platform's tree (None: scratch)."""

    frontend: FrontendResult
    records: Sequence[RecordId | None]
    trees: Trees


@contextmanager
def telling(context: ExportContext, name: str) -> Iterator[str]:
    """Show one export as a step; gives its id for statuses."""
    context.sink.send(VertexStarted(name, name, at_ns=time.time_ns()))
    try:
        yield name
    except Exception as error:
        text = str(error).partition("\n")[0]
        context.sink.send(VertexDone(name, error=text or type(error).__name__, at_ns=time.time_ns()))
        raise
    context.sink.send(VertexDone(name, at_ns=time.time_ns()))


@contextmanager
def status(context: ExportContext, vertex: str, what: str) -> Iterator[None]:
    """Show one part of an export, with how long it took."""
    started = time.time_ns()
    context.sink.send(Status(vertex, what, started_ns=started, at_ns=started))
    yield
    context.sink.send(Status(vertex, what, done=True, started_ns=started, at_ns=time.time_ns()))
