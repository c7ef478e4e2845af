"""What progress hears of the steps of one run of the solver, and what a failure says of the step that it ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from knarr.errors import Cancelled, KnarrError
from knarr.llb.ops import ExecOp, SourceOp, Vertex
from knarr.progress import VertexDone, VertexStarted

if TYPE_CHECKING:
    from knarr.engine.shown import Shown
    from knarr.errors import Span
    from knarr.progress import Sink
    from knarr.solver.graph import SolverGraph
    from knarr.spec.digest import Digest


class Telling:
    """Tells `sink` of the vertices of `graph`, each beginning and end once in a job. Safe from several threads."""

    def __init__(self, graph: SolverGraph, sink: Sink, shown: Shown) -> None:
        self._graph, self._sink, self._shown = graph, sink, shown

    def begin(self, vertex: Vertex) -> None:
        if not self._shown.begins(vertex.digest):
            return
        inputs = tuple(str(edge.digest) for edge in vertex.inputs)
        self._sink.send(VertexStarted(str(vertex.digest), step_name(vertex), inputs, time.time_ns()))

    def end(self, vertex: Vertex, *, cached: bool = False, error: str = "", cancelled: bool = False) -> None:
        """The vertex has ended; it has begun before, whether that was told or not."""
        self.begin(vertex)
        if not self._shown.ends(vertex.digest):
            return
        done = VertexDone(str(vertex.digest), cached=cached, error=error, cancelled=cancelled, at_ns=time.time_ns())
        self._sink.send(done)

    def explained(self, digest: Digest, error: BaseException) -> BaseException:
        """Tell that a vertex has failed; the error with what is known here: its place in the file, its platform."""
        vertex = self._graph.vertices[digest]
        if isinstance(error, Cancelled):
            if self._shown.has_begun(digest):
                self.end(vertex, cancelled=True)
            return error
        from knarr.engine import blame

        if isinstance(error, OSError):
            error = blame.translated(error)
        self.end(vertex, error=error.message if isinstance(error, KnarrError) else repr(error))
        if not isinstance(error, KnarrError):
            return error
        error.vertex = error.vertex or str(digest)
        return blame.with_step(error, vertex, step_name(vertex)).with_context(span=self._place_of_readers(vertex))

    def _place_of_readers(self, vertex: Vertex) -> Span | None:
        """The first line that needs `vertex`: what an ADD fetches has no place of its own."""
        readers = (self._graph.vertices[reader] for reader in self._graph.consumers[vertex.digest])
        return next((span for reader in readers for span in reader.spans), None)


def step_name(vertex: Vertex) -> str:
    """What people call a vertex: the name its frontend gave it, or its op in short."""
    if vertex.metadata.name:
        return vertex.metadata.name
    op = vertex.op
    if isinstance(op, SourceOp):
        return op.identifier
    if isinstance(op, ExecOp):
        return " ".join(op.meta.args)
    return type(op).__name__.removesuffix("Op").lower()
