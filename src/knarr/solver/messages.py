"""What goes in and out of the machine: instructions to carry out, and the events that answer them.

Records only. An event names the instruction it answers (`of`), so that the two meet
in any order and a run can be replayed from its events.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from knarr.llb.ops import Edge
from knarr.record import field, record
from knarr.solver.keys import Selection
from knarr.spec.digest import Digest

RecordId = str  # as cache.record has it; the solver only hands it through

# --- instructions


@record
class ResolveSource:
    """Find out what a source is now. Answered by SourceResolved."""

    vertex: Digest


@record
class Query:
    """Look up one key per output. Answered by Queried."""

    vertex: Digest
    keys: tuple[tuple[int, str], ...]  # (output, key)


@record
class HashContent:
    """Hash one selection of an input's tree. `vertex` is whose step it is for. Answered by Hashed.

    Equal (record, selection) are asked for once in a build.
    """

    vertex: Digest
    edge: Edge
    record: RecordId
    selection: Selection


@record
class Load:
    """Make sure the result of `edge` is usable. Answered by Loaded, or LoadFailed: then it is made anew."""

    edge: Edge
    record: RecordId


@record
class Output:
    """One output that Execute must save: under `id`, and found by each of `keys` from then on."""

    index: int
    id: RecordId
    keys: tuple[str, ...]


@record
class Execute:
    """Run a vertex on its inputs' records and save its outputs. Answered by Done."""

    vertex: Digest
    outputs: tuple[Output, ...]
    inputs: tuple[RecordId, ...]


@record
class Link:
    """Let `key` lead to `record` as well. No answer."""

    key: str
    record: RecordId


@record
class Cached:
    """For progress: the vertex was found in the cache and will not run. No answer."""

    vertex: Digest


@record
class Cancel:
    """Something failed: stop what is under way. No answer of its own; each thing under way still answers."""


Instruction = ResolveSource | Query | HashContent | Load | Execute | Link | Cached | Cancel
Answerable = ResolveSource | Query | HashContent | Load | Execute

# --- events


@record
class SourceResolved:
    """What a source is: `key` names its content (a commit, a checksum, a chain id).

    `volatile`: the key says nothing about the content (a directory of this session). `record`: its
    result is known already under this id (the top layer of a base image), and need not be looked up.
    """

    of: ResolveSource
    key: str
    volatile: bool = False
    record: RecordId | None = None


@record
class Hit:
    """A key leads to `record`; `usable` tells whether its result is still there."""

    record: RecordId
    usable: bool = True


@record
class Queried:
    """What was found, by output; an output that is missing was not found."""

    of: Query
    hits: Mapping[int, Hit] = field(default_factory=dict)


@record
class Hashed:
    of: HashContent
    hash: str


@record
class Loaded:
    of: Load


@record
class LoadFailed:
    of: Load


@record
class Done:
    """The outputs are saved under the ids that Execute named."""

    of: Execute


@record
class Failed:
    """The build ends with `error`, unless another failure came first."""

    of: Answerable
    error: BaseException


Event = SourceResolved | Queried | Hashed | Loaded | LoadFailed | Done | Failed


class Fate(IntEnum):
    """What became of a vertex."""

    NOT_NEEDED = 0
    CACHED = 1
    EXECUTED = 2
