"""The machine: events in, instructions out, until every goal has a result.

A vertex passes through two lives. Its *identity* is found from the bottom up, and
its *result* is asked for from the top down; what no goal asks for is never made.

    identity   IDLE → INPUTS → FAST → CONTENT → SLOW → KNOWN      (a source: IDLE → SOURCE → FAST → KNOWN)
    result     nobody asks → Load (a record has it)
                           → results of all inputs → Execute      → ready

    move      when                                      does
    BEGIN     someone asks who the vertex is            a source: ResolveSource; else asks for its inputs' identities
    KEY       the inputs' identities are known          Query by the fast key (not if it cannot hit)
    HASH      the content-based inputs have results     HashContent of the selected paths
    PRODUCE   known, and someone asks for the result    Load, or asks for the inputs' results
    EXECUTE   the inputs have results                   Execute
    FOLLOW    another vertex made the same records      takes them

Invariants. An identity never changes once it is KNOWN, and is a function of the
graph, the sources' keys and the contents, whatever the order of events, so that
a key computed early never turns out wrong. Records are named before they are made
(`Output.id`): whoever executes saves them under those names. Two vertices that come
to the same record make it once. A *volatile* identity (a directory of this
session, and all that is known by its identity) is never looked up and has no keys.

A hit by either key links the other to the same record. `ignore_cache` skips the
look-ups and gives the vertex an identity that no earlier build has, so that what
is defined by it misses, while what reads its content may still hit; its keys are
linked to the new record.

One thread owns the machine. Each instruction that has an answer is answered by
exactly one event, in any order; a run is replayed from its list of events.

    machine = Machine(merge(graphs), nonce=job_id)
    todo = machine.start()
    while todo:
        event = carry_out(todo.pop())  # None for an instruction that has no answer
        todo += machine.step(event) if event else []
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from knarr.errors import Bug
from knarr.llb.ops import Edge, SourceOp
from knarr.solver import keys
from knarr.solver.graph import SolverGraph
from knarr.solver.life import Gate, Life, Move, Stage
from knarr.solver.messages import (
    Answerable,
    Cached,
    Cancel,
    Done,
    Event,
    Execute,
    Failed,
    Fate,
    HashContent,
    Hashed,
    Hit,
    Instruction,
    Link,
    Load,
    Loaded,
    LoadFailed,
    Output,
    Queried,
    Query,
    RecordId,
    ResolveSource,
    SourceResolved,
)
from knarr.spec.digest import Digest


class Machine:
    """Decides what to do for the goals of `graph`. Not for more than one thread.

    `nonce` tells this build from all others: it makes the identities of vertices that ignore the cache.
    """

    def __init__(self, graph: SolverGraph, *, nonce: str) -> None:
        self._nonce = nonce
        self._lives = {digest: Life(vertex, graph.outputs[digest]) for digest, vertex in graph.vertices.items()}
        self._goals = graph.goals
        self._agenda: deque[tuple[Life, Move]] = deque()
        self._out: list[Instruction] = []
        self._running: set[Answerable] = set()
        self._makers: dict[RecordId, Life] = {}  # who makes a record in this build
        self._hashes: dict[tuple[RecordId, keys.Selection], str] = {}
        self._hashing: dict[tuple[RecordId, keys.Selection], list[Gate]] = {}
        self._started = False
        self._error: BaseException | None = None

    # --- what the driver calls

    def start(self) -> list[Instruction]:
        """The first instructions. Called once."""
        if self._started:
            raise Bug("the machine was started twice")
        self._started = True
        for goal in self._goals:
            self._want_result(goal)
        return self._settle()

    def step(self, event: Event) -> list[Instruction]:
        """What follows from `event`.

        Raises:
            Bug: the event answers nothing that is under way.
        """
        if event.of not in self._running:
            raise Bug(f"an answer to nothing that is under way: {event}")
        self._running.discard(event.of)
        if self._error is not None:
            return []
        if isinstance(event, Failed):
            self._error = event.error
            self._agenda.clear()
            return [Cancel()]
        self._learn(event)
        return self._settle()

    @property
    def finished(self) -> bool:
        """Whether nothing is under way any more: all goals have results, or `error` is set."""
        return self._started and not self._running

    @property
    def error(self) -> BaseException | None:
        """The first failure."""
        return self._error

    @property
    def results(self) -> dict[Edge, RecordId]:
        """The goals that have results, and the records that have them."""
        found = ((goal, self._lives[goal.digest].records.get(goal.index)) for goal in self._goals)
        return {goal: record for goal, record in found if record is not None}

    def identity(self, edge: Edge) -> str | None:
        """Who `edge` is, once that is known."""
        return self._lives[edge.digest].ids.get(edge.index)

    def record(self, edge: Edge) -> RecordId | None:
        """The record that has the result of `edge`, once there is one."""
        return self._lives[edge.digest].records.get(edge.index)

    def contents(self, vertex: Digest) -> Mapping[int, str]:
        """The content hashes of a vertex's inputs that were needed, by input."""
        return self._lives[vertex].contents

    def fates(self) -> dict[Digest, Fate]:
        """What became of each vertex so far."""
        return {digest: life.fate for digest, life in self._lives.items()}

    # --- the loop

    def _settle(self) -> list[Instruction]:
        """Make every move that is due; an explicit agenda, since chains are long."""
        while self._agenda:
            life, move = self._agenda.popleft()
            _MOVES[move](self, life)
        if not self._running and not self._agenda:
            self._close()
        out, self._out = self._out, []
        return out

    def _emit(self, instruction: Answerable) -> None:
        self._running.add(instruction)
        self._out.append(instruction)

    def _learn(self, event: Event) -> None:
        if isinstance(event, Queried):
            self._queried(self._lives[event.of.vertex], event.hits)
        elif isinstance(event, Hashed):
            self._hashed(event.of, event.hash)
        elif isinstance(event, Done):
            life = self._lives[event.of.vertex]
            life.fate = Fate.EXECUTED
            self._ready(life, {output.index: output.id for output in event.of.outputs})
        elif isinstance(event, Loaded):
            self._ready(self._lives[event.of.edge.digest], {event.of.edge.index: event.of.record})
        elif isinstance(event, LoadFailed):
            life = self._lives[event.of.edge.digest]
            life.usable.discard(event.of.edge.index)
            self._agenda.append((life, Move.PRODUCE))
        elif isinstance(event, SourceResolved):
            self._resolved(self._lives[event.of.vertex], event)

    def _close(self) -> None:
        """The end: what was known, but never needed as a tree, counts as cached all the same."""
        for life in self._lives.values():
            if life.hit and life.fate == Fate.NOT_NEEDED:
                self._cached(life)

    def _cached(self, life: Life) -> None:
        life.fate = Fate.CACHED
        self._out.append(Cached(life.vertex.digest))

    # --- demands

    def _want_identity(self, life: Life) -> None:
        if life.stage is Stage.IDLE:
            life.stage = Stage.INPUTS
            self._agenda.append((life, Move.BEGIN))

    def _want_result(self, edge: Edge) -> None:
        life = self._lives[edge.digest]
        if edge.index in life.wanted:
            return
        life.wanted.add(edge.index)
        self._want_identity(life)
        if life.stage is Stage.KNOWN:
            self._agenda.append((life, Move.PRODUCE))
        elif life.stage is Stage.INPUTS:
            for input in dict.fromkeys(edge.digest for edge in life.vertex.inputs):
                self._foresee(life, self._lives[input])

    def _after_identities(self, edges: Iterable[Edge], life: Life, move: Move) -> None:
        """Let `life` make `move` once it is known who all of `edges` are."""
        gate = Gate(life, move)
        for digest in dict.fromkeys(edge.digest for edge in edges):
            other = self._lives[digest]
            self._want_identity(other)
            if other.stage is Stage.KNOWN:
                self._foresee(life, other)
            else:
                gate.left += 1
                other.awaiting_identity.append(gate)
        self._pass(gate)

    def _foresee(self, life: Life, input: Life) -> None:
        """Ask for what `life` will need of `input` whatever its other inputs turn out to be.

        An input that no record has makes the keys of `life` new as well. So its tree is needed: to be read, or, if
        somebody asks for the result of `life`, to make that. Without this, the stages that a row of COPY --from
        reads would be built one after the other, since each COPY is known only when the one before it is.
        """
        if input.stage is not Stage.KNOWN or input.hit:
            return
        for index, edge in enumerate(life.vertex.inputs):
            is_needed = bool(life.wanted) or index in life.map.by_content
            if is_needed and edge.digest == input.vertex.digest and edge.index not in input.usable:
                self._want_result(edge)

    def _after_results(self, edges: Iterable[Edge], life: Life, move: Move) -> None:
        """Let `life` make `move` once all of `edges` have results."""
        gate = Gate(life, move)
        for edge in dict.fromkeys(edges):
            self._want_result(edge)
            other = self._lives[edge.digest]
            if edge.index not in other.records:
                gate.left += 1
                other.awaiting_result.setdefault(edge.index, []).append(gate)
        self._pass(gate)

    def _pass(self, gate: Gate) -> None:
        if gate.left == 0:
            self._agenda.append((gate.life, gate.move))

    def _open(self, gates: list[Gate]) -> None:
        for gate in gates:
            gate.left -= 1
            self._pass(gate)

    # --- identity

    def _begin(self, life: Life) -> None:
        if isinstance(life.vertex.op, SourceOp):
            life.stage = Stage.SOURCE
            self._emit(ResolveSource(life.vertex.digest))
        else:
            life.map = keys.cache_map(life.vertex)
            self._after_identities(life.vertex.inputs, life, Move.KEY)

    def _resolved(self, life: Life, event: SourceResolved) -> None:
        life.map = keys.source_map(event.key)
        life.volatile = event.volatile
        if event.record is None:
            self._look_up_fast(life)
            return
        life.ids = dict.fromkeys(life.outputs, event.record)
        life.usable = set(life.outputs)
        self._known(life)

    def _key(self, life: Life) -> None:
        life.volatile = any(self._lives[edge.digest].volatile for edge in life.vertex.inputs)
        self._look_up_fast(life)

    def _look_up_fast(self, life: Life) -> None:
        life.stage = Stage.FAST
        life.fast = keys.fast_key(life.map, self._input_ids(life))
        if life.volatile or life.ignores_cache:
            self._missed_fast(life)
        else:
            self._query(life, life.fast)

    def _missed_fast(self, life: Life) -> None:
        by_content = life.map.by_content
        if not by_content:
            self._name(life, life.fast)
            return
        life.stage = Stage.CONTENT
        self._after_results((life.vertex.inputs[index] for index in by_content), life, Move.HASH)

    def _hash(self, life: Life) -> None:
        gate = Gate(life, Move.SLOW)
        for index in life.map.by_content:
            edge = life.vertex.inputs[index]
            for selection in life.map.deps[index].content:
                known = (self._record(edge), selection)
                if known in self._hashes:
                    continue
                gate.left += 1
                waiting = self._hashing.setdefault(known, [])
                waiting.append(gate)
                if len(waiting) == 1:
                    self._emit(HashContent(life.vertex.digest, edge, *known))
        self._pass(gate)

    def _hashed(self, of: HashContent, digest: str) -> None:
        self._hashes[of.record, of.selection] = digest
        self._open(self._hashing.pop((of.record, of.selection)))

    def _slow(self, life: Life) -> None:
        life.stage = Stage.SLOW
        for index in life.map.by_content:
            record = self._record(life.vertex.inputs[index])
            parts = [self._hashes[record, selection] for selection in life.map.deps[index].content]
            life.contents[index] = keys.contents_key(parts)
        life.slow = keys.slow_key(life.map, self._input_ids(life), life.contents)
        life.volatile = any(
            self._lives[edge.digest].volatile
            for index, edge in enumerate(life.vertex.inputs)
            if index not in life.contents
        )
        if life.volatile or life.ignores_cache:
            self._name(life, life.slow)
        else:
            self._query(life, life.slow)

    def _query(self, life: Life, key: str) -> None:
        missing = tuple((index, keys.output_key(key, index)) for index in life.outputs if index not in life.ids)
        self._emit(Query(life.vertex.digest, missing))

    def _queried(self, life: Life, hits: Mapping[int, Hit]) -> None:
        for index, hit in hits.items():
            life.ids[index] = hit.record
            if hit.usable:
                life.usable.add(index)
        if life.stage is Stage.SLOW:
            self._link(life, hits)
            self._name(life, life.slow)
        elif len(life.ids) < len(life.outputs):
            self._missed_fast(life)
        else:
            self._found(life)

    def _link(self, life: Life, hits: Mapping[int, Hit]) -> None:
        """The definition leads to what the content led to (unless it holds for this session only)."""
        if not self._has_fast_key(life):
            return
        for index, hit in hits.items():
            self._out.append(Link(keys.output_key(life.fast, index), hit.record))

    def _name(self, life: Life, key: str) -> None:
        """Name the outputs that were not found after `key`."""
        missing = [index for index in life.outputs if index not in life.ids]
        for index in missing:
            name = keys.output_key(key, index)
            life.ids[index] = keys.fresh_id(name, self._nonce) if life.ignores_cache else name
        if missing:
            self._known(life)
        else:
            self._found(life)

    def _found(self, life: Life) -> None:
        life.hit = True
        if len(life.usable) == len(life.outputs):
            self._cached(life)
        self._known(life)

    def _known(self, life: Life) -> None:
        life.stage = Stage.KNOWN
        for gate in life.awaiting_identity:
            self._foresee(gate.life, life)
        self._open(life.awaiting_identity)
        life.awaiting_identity = []
        if life.wanted:
            self._agenda.append((life, Move.PRODUCE))

    # --- result

    def _produce(self, life: Life) -> None:
        for index in sorted(life.wanted - life.records.keys()):
            if index not in life.usable:
                self._make(life)
            elif index not in life.loading:
                life.loading.add(index)
                self._emit(Load(Edge(life.vertex.digest, index), life.ids[index]))

    def _make(self, life: Life) -> None:
        if life.making:
            return
        life.making = True
        if not self._is_following(life):
            self._after_results(life.vertex.inputs, life, Move.EXECUTE)

    def _is_following(self, life: Life) -> bool:
        """Let another vertex make what is missing, if one is at it.

        Only a vertex that executes, or has, is followed. One that still waits for its inputs may
        wait for this one: a file copied twice is two vertices, one below the other, with one record.
        """
        missing = self._unmade(life)
        maker = self._makers.get(life.ids[missing[0]])
        if maker is None or not all(self._makers.get(life.ids[index]) is maker for index in missing):
            return False
        # The same key means the same output: an output's index is part of it.
        self._after_results((Edge(maker.vertex.digest, index) for index in missing), life, Move.FOLLOW)
        return True

    def _execute(self, life: Life) -> None:
        if self._is_following(life):
            return
        for index in life.outputs:
            self._makers[life.ids[index]] = life
        outputs = tuple(Output(index, life.ids[index], self._keys(life, index)) for index in life.outputs)
        self._emit(Execute(life.vertex.digest, outputs, tuple(map(self._record, life.vertex.inputs))))

    def _follow(self, life: Life) -> None:
        made = {index: life.ids[index] for index in self._unmade(life)}
        for index, record in made.items():
            self._out += (Link(key, record) for key in self._keys(life, index))
        life.hit = True
        life.making = False  # an output that fails to load from now on is made here
        self._ready(life, made)
        self._agenda.append((life, Move.PRODUCE))

    def _ready(self, life: Life, records: Mapping[int, RecordId]) -> None:
        life.records.update(records)
        for index in records:
            self._open(life.awaiting_result.pop(index, []))

    # --- facts of a life

    def _unmade(self, life: Life) -> list[int]:
        return [index for index in life.outputs if index not in life.usable and index not in life.records]

    def _record(self, edge: Edge) -> RecordId:
        return self._lives[edge.digest].records[edge.index]

    def _input_ids(self, life: Life) -> list[str]:
        return [self._lives[edge.digest].ids[edge.index] for edge in life.vertex.inputs]

    def _has_fast_key(self, life: Life) -> bool:
        return not life.volatile and not any(self._lives[edge.digest].volatile for edge in life.vertex.inputs)

    def _keys(self, life: Life, index: int) -> tuple[str, ...]:
        found = []
        if self._has_fast_key(life):
            found.append(keys.output_key(life.fast, index))
        if life.slow and not life.volatile:
            found.append(keys.output_key(life.slow, index))
        return tuple(found)


_MOVES = {
    Move.BEGIN: Machine._begin,
    Move.KEY: Machine._key,
    Move.HASH: Machine._hash,
    Move.SLOW: Machine._slow,
    Move.PRODUCE: Machine._produce,
    Move.EXECUTE: Machine._execute,
    Move.FOLLOW: Machine._follow,
}
