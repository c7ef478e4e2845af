"""Progress events and the `Sink` they go to.

The words are BuildKit's: a *vertex* is one step as shown to a person, a *status*
is a counter inside it (bytes of a layer), a *log* is output of its process.
Events go out; nothing comes back. The terminal, plain lines, `rawjson` and
BuildKit's status stream are sinks.
"""

from __future__ import annotations

from typing import Protocol

from knarr.record import field, record


@record
class VertexStarted:
    """A step begins (or was found cached: then `VertexDone(cached=True)` follows at once)."""

    id: str  # unique within the build; the vertex digest where there is one
    name: str  # "[build 2/5] RUN make", "[linux/arm64 build 2/5] …", "[internal] load build context"
    inputs: tuple[str, ...] = ()
    at_ns: int = 0  # time.time_ns()


@record
class VertexDone:
    """A step ended: well, found in the cache, cancelled, or with `error` (one line)."""

    id: str
    cached: bool = False
    error: str = ""
    cancelled: bool = False
    at_ns: int = 0


@record
class Status:
    """A counter inside a step. `total` 0: unknown. `done` closes it."""

    vertex: str
    id: str  # "sha256:… 12.3MB", "exporting layers"
    current: int = 0
    total: int = 0
    done: bool = False
    started_ns: int = 0
    at_ns: int = 0


@record
class Log:
    """Bytes a step's process wrote: `stream` 1 is standard output, 2 standard error."""

    vertex: str
    stream: int
    data: bytes
    at_ns: int = 0


@record
class Warned:
    """A lint warning or an advice: shown in the end, too."""

    vertex: str
    message: str
    detail: str = ""
    url: str = ""
    file: str = ""
    line: int = 0
    at_ns: int = 0
    source: bytes = field(default=b"", repr=False)  # the text of `file`, for those who are far away
    level: int = 1  # of BuildKit's: its own are 1
    last_line: int = 0  # 0: `line` is the only one


Event = VertexStarted | VertexDone | Status | Log | Warned


class Sink(Protocol):
    """Where events go. `send` may be called from any thread and does not block for long."""

    def send(self, event: Event) -> None: ...


class Silent:
    """A sink that drops everything."""

    def send(self, event: Event) -> None:
        return None


class Recorder:
    """A sink that keeps every event in order (list.append is atomic)."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)
