"""The solver's graph: the definitions of all platforms and goals as one, equal vertices made one.

A vertex is its digest, so that what two platforms share is there once. Only what
a goal can reach stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from knarr.errors import KnarrError
from knarr.llb.ops import Edge, ExecOp, FileOp, Graph, MergeOp, Vertex
from knarr.record import record, replace
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


@record
class SolverGraph:
    """Vertices in an order where inputs come first, and the edges whose results are asked for."""

    vertices: Mapping[Digest, Vertex]
    goals: tuple[Edge, ...]
    consumers: Mapping[Digest, tuple[Digest, ...]]  # who reads a vertex, each once, in topological order
    outputs: Mapping[Digest, tuple[int, ...]]  # the outputs of a vertex that anybody reads, ascending


def merge(graphs: Iterable[Graph], goals: Iterable[Edge] | None = None) -> SolverGraph:
    """One graph of `graphs`, cut down to what `goals` (default: the root of each graph) need.

    Where graphs disagree on a vertex's metadata, the first one names it, and
    `ignore_cache` counts if any of them asks for it. A scratch root is no goal.

    Raises:
        KnarrError: an edge leads to a vertex that is in none of the graphs, or in a circle.
    """
    graphs = tuple(graphs)
    known: dict[Digest, Vertex] = {}
    for graph in graphs:
        for digest, vertex in graph.vertices.items():
            first = known.setdefault(digest, vertex)
            if vertex.metadata.ignore_cache and not first.metadata.ignore_cache:
                known[digest] = replace(first, metadata=replace(first.metadata, ignore_cache=True))
    if goals is None:
        goals = (graph.root for graph in graphs if graph.root is not None)
    wanted = tuple(dict.fromkeys(goals))
    return _link(_reachable(known, wanted), wanted)


def on_platform(graph: SolverGraph, platform: Platform) -> SolverGraph:
    """`graph` with `platform`, the worker's own, for each process that names none: it runs there, and is keyed so.

    BuildKit does the same (solver/llbsolver/ops/exec.go, CacheMap); frontends nearly always name one.
    """
    bare = {
        digest: replace(vertex, platform=platform)
        for digest, vertex in graph.vertices.items()
        if vertex.platform is None and isinstance(vertex.op, ExecOp)
    }
    return replace(graph, vertices={**graph.vertices, **bare}) if bare else graph


def _reachable(known: Mapping[Digest, Vertex], goals: tuple[Edge, ...]) -> dict[Digest, Vertex]:
    """The vertices behind `goals`, inputs first. An explicit stack: a thousand stages are a thousand deep."""
    ordered: dict[Digest, Vertex] = {}
    open_: set[Digest] = set()
    stack = [(goal.digest, False) for goal in reversed(goals)]
    while stack:
        digest, inputs_done = stack.pop()
        if digest in ordered:
            continue
        vertex = known.get(digest)
        if vertex is None:
            raise KnarrError(f"the build graph reads {digest}, which is not in it")
        if inputs_done:
            ordered[digest] = vertex
            open_.discard(digest)
            continue
        if digest in open_:
            raise KnarrError(f"the build graph goes in a circle through {digest}")
        open_.add(digest)
        stack.append((digest, True))
        stack.extend((edge.digest, False) for edge in reversed(vertex.inputs) if edge.digest not in ordered)
    return ordered


def _link(vertices: dict[Digest, Vertex], goals: tuple[Edge, ...]) -> SolverGraph:
    consumers: dict[Digest, dict[Digest, None]] = {digest: {} for digest in vertices}
    outputs: dict[Digest, set[int]] = {digest: set() for digest in vertices}
    for digest, vertex in vertices.items():
        for edge in vertex.inputs:
            consumers[edge.digest][digest] = None
            outputs[edge.digest].add(edge.index)
    for goal in goals:
        outputs[goal.digest].add(goal.index)
    return SolverGraph(
        vertices=vertices,
        goals=goals,
        consumers={digest: tuple(readers) for digest, readers in consumers.items()},
        outputs={digest: tuple(sorted(indexes)) for digest, indexes in outputs.items()},
    )


def layers_of_goals(graph: SolverGraph) -> frozenset[Digest]:
    """The vertices whose changes become layers of a goal: the goals, and what each of them starts from."""
    found: set[Digest] = set()
    pending = [edge.digest for edge in graph.goals]
    while pending:
        digest = pending.pop()
        if digest not in found:
            found.add(digest)
            pending += [edge.digest for edge in base_edges(graph.vertices[digest])]
    return frozenset(found)


def base_edges(vertex: Vertex) -> tuple[Edge, ...]:
    """The inputs that the result of `vertex` starts from, not those it only reads. Sources have none."""
    op = vertex.op
    indexes: Iterable[int] = ()
    if isinstance(op, ExecOp):
        indexes = (mount.input for mount in op.mounts if mount.dest == "/")
    elif isinstance(op, FileOp):
        indexes = (action.input for action in op.actions)
    elif isinstance(op, MergeOp):
        indexes = op.inputs
    return tuple(vertex.inputs[index] for index in indexes if 0 <= index < len(vertex.inputs))
