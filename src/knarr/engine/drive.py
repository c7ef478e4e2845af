"""Carries out the solver's instructions on threads; each outcome goes back to the machine as an event.

The machine decides and this module acts. One thread (the caller's) owns the
machine: it answers look-ups itself, in batches, and starts everything that waits
or works on threads of the build's scope. Two builds never share a graph; they
meet in `cache.flight`, where one makes a record and the other then finds it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from knarr.cache.flight import flight
from knarr.cache.record import EMPTY, SHARED, Record, RecordId
from knarr.engine.contents import Contents
from knarr.engine.sources import Sources
from knarr.engine.telling import Telling, step_name
from knarr.errors import Bug, Cancelled, KnarrError, Remains
from knarr.llb.ops import BuildOp, DiffOp, Edge, ExecOp, FileOp, MergeOp, PassthroughOp, SourceOp, Vertex
from knarr.ops import source_local
from knarr.progress import Status, Warned
from knarr.record import replace
from knarr.scope import TICK_S
from knarr.solver import messages as m
from knarr.solver.explain import Input, called
from knarr.solver.graph import base_edges, layers_of_goals
from knarr.solver.keys import cache_map
from knarr.solver.machine import Machine
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.cache.contenthash import TreeHasher
    from knarr.engine.ahead import Ahead
    from knarr.engine.history import Diary
    from knarr.engine.sharing import Sharing
    from knarr.engine.shown import Shown
    from knarr.llb.ops import Graph
    from knarr.ops.exec import StepOptions
    from knarr.ops.images import Images
    from knarr.ops.trees import DiskTrees
    from knarr.ops.world import World
    from knarr.solver.graph import SolverGraph

_QUESTIONS = 4  # of a registry at a time


class Drive:
    """One run of the machine."""

    def __init__(
        self,
        world: World,
        trees: DiskTrees,
        images: Images,
        graph: SolverGraph,
        options: StepOptions,
        diary: Diary,
        shown: Shown,
        *,
        nonce: str,
        sweep: Callable[[], None],
        ahead: Ahead | None,
        nested: Callable[[Digest, Graph], RecordId | None],
        pins: dict[Digest, str],
        sharing: Sharing | None = None,
    ) -> None:
        """`sweep` removes what killed builds have left. `ahead`: the result will be exported, here and by us.

        `nested` solves a graph that a vertex (by its digest) has found in a file.
        `pins` is told what each source vertex was now.
        `sharing` has the caches that are shared, if any are.
        """
        self._world = world
        self._trees = trees
        self._graph = graph
        self._options = options
        self._sweep = sweep
        self._nested = nested
        self._ahead = ahead
        self._layers = layers_of_goals(graph) if ahead is not None else frozenset()
        self.sharing = sharing
        self.diary = diary
        self._telling = Telling(graph, world.sink, shown)
        self._machine = Machine(graph, nonce=nonce)
        self._events: SimpleQueue[m.Event] = SimpleQueue()
        self._sources = Sources(world, trees, images, nonce, sharing, pins)
        self._contents = Contents(world, trees)
        self._lock = threading.Lock()
        self._cores = threading.BoundedSemaphore(max(2, 2 * (os.cpu_count() or 1)))

    @property
    def graph(self) -> SolverGraph:
        return self._graph

    @property
    def machine(self) -> Machine:
        """What became of the graph."""
        return self._machine

    @property
    def world(self) -> World:
        return self._world

    def known(self, record: RecordId) -> Record | None:
        """The record of this id (a directory that was lent has none)."""
        return self._world.cache.get(record)

    def is_available(self, record: RecordId) -> bool:
        """Whether all layers of a record are here or can be fetched."""
        return self.known(record) is not None and self._are_whole(self._trees.chain(record))

    def is_unpacked(self, record: RecordId) -> bool:
        """Whether the tree of a record is there without fetching or unpacking anything."""
        known = self._world.cache.get(record)
        return (
            known is not None
            and known.snapshot is not None
            and self._world.snapshotter.stat(known.snapshot) is not None
        )

    @property
    def hashers(self) -> dict[RecordId, TreeHasher]:
        """What was hashed in this build, by record: the fingerprint asks which files were looked at."""
        return self._contents.hashers

    @property
    def asked_elsewhere(self) -> bool:
        """Whether a server was asked what a source is now, so that no file of this machine tells if it changed."""
        return any(not found.pinned for found in self._sources.fetched.values())

    def run(self) -> dict[Edge, RecordId]:
        """Solve; returns the record of each goal.

        Raises:
            KnarrError: the first failure, with the step's place and platform.
            Cancelled: the scope was cancelled.
        """
        self.diary.begin(lambda: map(step_name, self._graph.vertices.values()))
        todo = list(self._machine.start())
        while True:
            todo = self._act(todo)
            if self._machine.finished:
                break
            if not todo:
                todo = self._machine.step(self._next_event())
        if self._machine.error is not None:
            raise self._machine.error
        self._end_promised()
        self._end_resolved()
        return self._machine.results

    def _end_promised(self) -> None:
        """What a shared cache promised and nobody needed counts as found."""
        sharing = self.sharing
        if sharing is not None:
            for promised in sharing.held():
                sharing.release(promised)
                self._cached(self._graph.vertices[promised])

    def _end_resolved(self) -> None:
        """Sources that were asked for, but that nobody needed as a tree, are done too."""
        for digest in self._sources.fetched:
            self._telling.end(self._graph.vertices[digest], cached=True)

    def _next_event(self) -> m.Event:
        while True:
            try:
                return self._events.get(timeout=TICK_S)
            except Empty:
                continue  # so that a signal's handler has its turn: see scope.TICK_S

    def _act(self, instructions: Sequence[m.Instruction]) -> list[m.Instruction]:
        """Carry out `instructions`; returns those that follow at once from look-ups answered here."""
        queries = [i for i in instructions if isinstance(i, m.Query)]
        for instruction in instructions:
            if isinstance(instruction, m.Link):
                self._world.cache.link(instruction.key, instruction.record)
            elif isinstance(instruction, m.Cached):
                self._cached(self._graph.vertices[instruction.vertex])
            elif isinstance(instruction, m.Cancel):
                self._world.scope.cancel()
            elif not isinstance(instruction, m.Query):
                self._begin_work(instruction)
        following: list[m.Instruction] = []
        for event in self._look_up(queries):
            following += self._machine.step(event)
        return following

    def _cached(self, vertex: Vertex) -> None:
        """Tell that a step was found, unless that is only promised: then when it has been looked for, or in the end."""
        if self.sharing is None or not self.sharing.hold(vertex.digest):
            self._telling.end(vertex, cached=True)
            self.diary.cached(step_name(vertex))

    def _look_up(self, queries: Sequence[m.Query]) -> list[m.Event]:
        if not queries:
            return []
        found = self._world.cache.lookup_many([key for query in queries for _, key in query.keys])
        events: list[m.Event] = []
        for query in queries:
            hits = {
                output: m.Hit(record.id, usable=_has_result(record))
                for output, key in query.keys
                if (record := found.get(key)) is not None
            }
            more = self.sharing.look_up(query, hits, self._machine) if self.sharing is not None else hits
            events.append(m.Queried(query, more))
        return events

    def _begin_work(self, instruction: m.Answerable) -> None:
        try:
            self._world.scope.attempt(self._work, instruction)
        except Cancelled as error:
            self._events.put(m.Failed(instruction, error))

    def _work(self, instruction: m.Answerable) -> None:
        try:
            self._world.scope.check()
            event = self._answer(instruction)
        except BaseException as error:
            if isinstance(instruction, m.Execute) and not isinstance(error, Cancelled):
                self._note_failure(instruction)
            if self._world.keeps_remains and isinstance(error, KnarrError):
                self._tell_remains(instruction, error)
            event = m.Failed(instruction, self._telling.explained(_vertex_of(instruction), error))
        self._events.put(event)

    def _tell_remains(self, instruction: m.Answerable, error: KnarrError) -> None:
        """Say which op failed, and of one that could not be compared with the cache, on which input."""
        vertex = self._graph.vertices[_vertex_of(instruction)]
        left = error.remains or Remains()
        if isinstance(instruction, m.HashContent):
            left = Remains((instruction.record,), selected=vertex.inputs.index(instruction.edge))
        error.remains = replace(left, op=vertex.raw)

    def _answer(self, instruction: m.Answerable) -> m.Event:
        if isinstance(instruction, m.ResolveSource):
            return self._resolve(instruction)
        if isinstance(instruction, m.HashContent):
            return self._hash(instruction)
        if isinstance(instruction, m.Load):
            return self._load(instruction)
        if isinstance(instruction, m.Execute):
            return self._execute(instruction)
        raise Bug(f"cannot carry out {instruction}")

    # Sources and content

    def _resolve(self, instruction: m.ResolveSource) -> m.Event:
        vertex = self._graph.vertices[instruction.vertex]
        if not self._sources.is_lent(vertex):
            self._telling.begin(vertex)
        resolved = self._sources.resolve(instruction, vertex)
        if resolved.record is not None:  # an image: its layers come when somebody needs them
            self._telling.end(vertex)
        return resolved

    def _hash(self, instruction: m.HashContent) -> m.Event:
        record, selection = instruction.record, instruction.selection
        checksum = self._contents.checksum(record, selection)  # first: it says best what is missing
        if self.sharing is not None:
            self.sharing.hash(record, selection)
        return m.Hashed(instruction, checksum)

    def save_memories(self) -> None:
        """Keep what was learned about the files of lent directories for the next build."""
        self._contents.save()
        if self.sharing is not None:
            self.sharing.save_memories()

    # Results

    def _load(self, instruction: m.Load) -> m.Event:
        chain = self._trees.chain(instruction.record)
        # Used now: `prune` goes by this, and leaves alone what a build that is under way has used.
        self._world.cache.touch(record.id for record in chain)
        is_whole = self._are_whole(chain)
        vertex = instruction.edge.digest
        if self.sharing is not None and self.sharing.release(vertex) and is_whole:
            self._cached(self._graph.vertices[vertex])
        if is_whole:
            return m.Loaded(instruction)
        self._tell_loss(vertex, chain)
        return m.LoadFailed(instruction)

    def _tell_loss(self, vertex: Digest, chain: Sequence[Record]) -> None:
        """Warn that a shared cache promised what it has not; of an own record that was pruned nobody needs to know."""
        name = next((link.history[SHARED] for link in reversed(chain) if SHARED in link.history), "")
        if name:
            step = step_name(self._graph.vertices[vertex])
            text = f"a layer of the cache {name} is not there: {step} runs"
            self._world.sink.send(Warned(str(vertex), text, at_ns=time.time_ns()))

    def _are_whole(self, chain: Sequence[Record]) -> bool:
        if not any(SHARED in link.history for link in chain):
            return all(map(self._is_whole, chain))
        from knarr.image.copy import each

        return all(each(self._is_whole, chain, scope=self._world.scope, jobs=_QUESTIONS))  # each asks a registry

    def _is_whole(self, record: Record) -> bool:
        """Whether the change of `record` is still somewhere: a snapshot, a blob here, or a blob in a registry."""
        world = self._world
        if record.id == EMPTY or record.same_as == EMPTY:
            return True
        if record.same_as is not None:
            change = world.cache.get(record.same_as)
            return change is not None and self._is_whole(change)
        if record.snapshot is not None and world.snapshotter.stat(record.snapshot) is not None:
            return True
        if record.blob is not None:
            return self._trees.is_within_reach(record)
        return False

    def _execute(self, instruction: m.Execute) -> m.Event:
        vertex = self._graph.vertices[instruction.vertex]
        op = vertex.op
        if isinstance(op, SourceOp) and vertex.digest not in self._sources.fetched:
            self._telling.begin(vertex)
            told = source_local.Transfer(self._world.sink, str(vertex.digest), op.identifier)
            tree = source_local.lent_tree(self._world.session, op, sent=told.sent)
            for output in instruction.outputs:
                self._trees.lend(output.id, tree)
            self._telling.end(vertex)
            return m.Done(instruction)
        first = instruction.outputs[0]
        with self._flight(vertex, first.id) as waited:
            if waited and first.keys:
                if self._found_after_all(instruction):
                    self._telling.end(vertex, cached=True)
                    return m.Done(instruction)
                self._sweep()  # it was killed, perhaps, and its container still runs
            with self._cores:
                self._telling.begin(vertex)
                if not self._defer(vertex, instruction):
                    self._run_op(vertex, instruction)
                    self._save(vertex, instruction)
        self._telling.end(vertex)
        if not isinstance(op, SourceOp):
            self.diary.executed(step_name(vertex), vertex, self._inputs_for_people(vertex, instruction))
        return m.Done(instruction)

    def _defer(self, vertex: Vertex, instruction: m.Execute) -> bool:
        """Leave a COPY that nothing mounts to the exporter, if it can be written straight into a layer."""
        if self._ahead is None or not isinstance(vertex.op, FileOp) or len(instruction.outputs) != 1:
            return False
        if not self._is_only_packed(vertex.digest):
            return False
        from knarr.ops import lazycopy

        def make() -> None:
            self._run_op(vertex, instruction)
            self._save(vertex, instruction)

        def blame(error: BaseException) -> BaseException:
            return self._telling.explained(_vertex_of(instruction), error)

        output = instruction.outputs[0]
        description = step_name(vertex)
        return lazycopy.defer(
            self._world, self._trees, vertex.op, instruction.inputs, output.id, output.keys, description, make, blame
        )

    def _is_only_packed(self, digest: Digest) -> bool:
        """Whether nothing in the graph needs a vertex as a tree: it is a result, or is merged into one."""
        readers = self._graph.consumers[digest]
        return all(
            isinstance(self._graph.vertices[reader].op, MergeOp) and self._is_only_packed(reader) for reader in readers
        )

    def _flight(self, vertex: Vertex, record: RecordId) -> AbstractContextManager[bool]:
        """The right to make `record`, alone among all processes."""

        def tell() -> None:
            self._telling.begin(vertex)
            self._world.sink.send(Status(str(vertex.digest), "waiting for another build that runs this step", 0, 0))

        return flight(self._world.settings.root / "flights", record, scope=self._world.scope, on_wait=tell)

    def _found_after_all(self, instruction: m.Execute) -> bool:
        """Whether another process made the same records while this one waited for the flight."""
        made = [self._world.cache.get(output.id) for output in instruction.outputs]
        return all(record is not None and self._is_whole(record) for record in made)

    def _run_op(self, vertex: Vertex, instruction: m.Execute) -> None:
        op = vertex.op
        names = _names(instruction.outputs)
        if isinstance(op, SourceOp):
            self._sources.fetched[vertex.digest].make(names[0])
        elif isinstance(op, ExecOp):
            from knarr.ops import exec as exec_op

            exec_op.run(
                self._world,
                op,
                instruction.inputs,
                names,
                vertex=str(vertex.digest),
                step=step_name(vertex),
                platform=vertex.platform,
                options=self._options,
                limits=vertex.metadata.resources,
                meanwhile=partial(self._look_ahead, vertex, instruction),
            )
        elif isinstance(op, FileOp):
            from knarr.ops import file

            file.run(self._world, op, instruction.inputs, names)
        elif isinstance(op, MergeOp):
            from knarr.ops import merge

            merge.run(self._trees, op, instruction.inputs, names[0])
        elif isinstance(op, DiffOp):
            from knarr.ops import diff

            diff.run(self._world, self._trees, op, instruction.inputs, names[0])
        elif isinstance(op, BuildOp):
            from knarr.ops import build

            evaluate = partial(self._nested, vertex.digest)
            build.run(self._world, self._trees, op, instruction.inputs, names[0], evaluate)
        elif isinstance(op, PassthroughOp):
            for output in instruction.outputs:
                self._trees.alias(instruction.inputs[op.outputs[output.index]], output.id)

    def _look_ahead(self, vertex: Vertex, instruction: m.Execute) -> None:
        """While the container of `vertex` starts: the exporters, and the layers below it if they are the result's."""
        if self._ahead is None:
            return
        below = None
        if vertex.digest in self._layers:
            edges = base_edges(vertex)
            below = instruction.inputs[vertex.inputs.index(edges[0])] if edges else None
        self._ahead.make_ready(below)

    def _save(self, vertex: Vertex, instruction: m.Execute) -> None:
        self._trees.save_chain(
            [(output.id, output.keys) for output in instruction.outputs], description=step_name(vertex)
        )

    def _note_failure(self, instruction: m.Execute) -> None:
        """Keep for `why` what the failed step was made of; what cannot be told now must not hide the failure."""
        vertex = self._graph.vertices[instruction.vertex]
        if not isinstance(vertex.op, SourceOp):
            with suppress(Exception):
                self.diary.failed(step_name(vertex), vertex, self._inputs_for_people(vertex, instruction))

    def _inputs_for_people(self, vertex: Vertex, instruction: m.Execute) -> list[Input]:
        """What the step read, by the names people know: file by file where content counts, else by identity."""
        bases = base_edges(vertex)
        contents = self._machine.contents(vertex.digest)
        inputs = []
        for index, (edge, dep) in enumerate(zip(vertex.inputs, cache_map(vertex).deps, strict=True)):
            source, record = self._graph.vertices[edge.digest], instruction.inputs[index]
            fetched = self._sources.fetched.get(edge.digest)
            files: dict[str, str] = {}
            for selection in dep.content:
                files |= self._contents.listing(record, selection)
            name = step_name(source)
            inputs.append(
                Input(
                    called(source, name, is_base=edge in bases),
                    "" if dep.content else fetched.key if fetched else record,
                    contents.get(index, ""),
                    files,
                    "" if isinstance(source.op, SourceOp) else name,
                    is_base=edge in bases,
                )
            )
        return inputs


def _names(outputs: Sequence[m.Output]) -> dict[int, RecordId]:
    """The ids by output index, of those that somebody reads."""
    return {output.index: output.id for output in outputs}


def _vertex_of(instruction: m.Answerable) -> Digest:
    return instruction.edge.digest if isinstance(instruction, m.Load) else instruction.vertex


def _has_result(record: Record) -> bool:
    return bool(record.snapshot or record.blob or record.same_as) or record.id == EMPTY
