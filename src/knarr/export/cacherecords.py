"""The records of a build for a shared cache: every key of its graph, and the results that go with them.

Built from the graph alone, inputs first, with the digests of `solver.sharedkeys`.
A vertex that is known neither by the definition of its inputs nor by their content
(a directory of this session that is not hashed) has no record, nor has anything
that is known only through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from knarr.cache import sharedconfig as shared
from knarr.export.clock import rfc3339
from knarr.llb.ops import Edge, Vertex
from knarr.record import record
from knarr.solver.sharedkeys import SharedMap, record_digest
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.export.trees import Layer
    from knarr.solver.graph import SolverGraph
    from knarr.spec.descriptor import Descriptor


class Facts(Protocol):
    """What is known of a solved graph."""

    @property
    def graph(self) -> SolverGraph: ...

    def map(self, vertex: Vertex) -> SharedMap:
        """What of the vertex counts; no digests for what has none that others could know."""
        ...

    def contents(self, vertex: Vertex) -> Mapping[int, str]:
        """The digests of the contents of inputs, by input."""
        ...

    def told(self, vertex: Vertex) -> Mapping[int, Iterable[str]]:
        """Digests of records for the contents of inputs, by input, as a shared cache told them."""
        ...


@record
class Built:
    """A config, the layers that it names, each once, and cache mounts, which go along without a record of theirs."""

    config: shared.Config
    layers: tuple[Layer, ...]
    mounts: tuple[Descriptor, ...] = ()


def build(facts: Facts, results: Mapping[Edge, Sequence[Layer]]) -> Built:
    """The whole cache of a build; `results` are the layers of those outputs that go along."""
    records = _Records()
    for vertex in facts.graph.vertices.values():
        records.add_vertex(vertex, facts, results)
    return Built(shared.Config(tuple(records.layers), tuple(records.done())), tuple(records.blobs.values()))


def build_inline(facts: Facts, goal: Edge, image: Sequence[Layer], results: Mapping[Edge, Sequence[Layer]]) -> bytes:
    """The records that one image's config takes: of what leads to `goal`, with results made of its own layers.

    Empty when none of the results is made of them.
    """
    places = {layer.descriptor.digest: at for at, layer in enumerate(image)}
    own = {edge: layers for edge, layers in results.items() if all(one.descriptor.digest in places for one in layers)}
    records = _Records()
    needed = _behind(facts.graph, goal)
    for digest, vertex in facts.graph.vertices.items():
        if digest in needed:
            records.add_vertex(vertex, facts, own)
    order = [places[layer.blob] for layer in records.layers]
    found = []
    for one in records.done():
        chains = [tuple(order[at] for at in result.layers) for result in one.results]
        placed = tuple(
            shared.Result(chain, result.created, is_chain=chain != tuple(range(len(chain))))
            for chain, result in zip(chains, one.results, strict=True)
        )
        found.append(shared.Record(one.digest, one.inputs, placed))
    if not any(one.results for one in found):
        return b""
    return shared.encode_inline(shared.Config((), tuple(found)))


def _behind(graph: SolverGraph, goal: Edge) -> set[Digest]:
    needed: set[Digest] = set()
    todo = [goal.digest]
    while todo:
        digest = todo.pop()
        if digest not in needed:
            needed.add(digest)
            todo += [edge.digest for edge in graph.vertices[digest].inputs]
    return needed


class _Records:
    """The config in the making: equal records and equal layers are one."""

    def __init__(self) -> None:
        self.layers: list[shared.Layer] = []
        self.blobs: dict[Digest, Layer] = {}
        self._layers: dict[shared.Layer, int] = {}
        self._records: dict[tuple[str, tuple[tuple[shared.Link, ...], ...]], int] = {}
        self._chains: list[tuple[int, ...]] = []  # of layers, by record; empty for a record without a result
        self._of: dict[Edge, list[int]] = {}

    def done(self) -> list[shared.Record]:
        return [
            shared.Record(digest, inputs, self._results_of(chain))
            for (digest, inputs), chain in zip(self._records, self._chains, strict=True)
        ]

    def _results_of(self, chain: tuple[int, ...]) -> tuple[shared.Result, ...]:
        if not chain:
            return ()
        # The time of the layer, not of this record: whoever takes the layer knows no other.
        created = self.blobs[self.layers[chain[-1]].blob].created_ns
        return (shared.Result(chain, rfc3339(created) if created else ""),)

    def add_vertex(self, vertex: Vertex, facts: Facts, results: Mapping[Edge, Sequence[Layer]]) -> None:
        map = facts.map(vertex)
        contents, told = facts.contents(vertex), facts.told(vertex)
        inputs = []
        for index, edge in enumerate(vertex.inputs if map.digests else ()):
            links = [shared.Link(at, map.deps[index].selector) for at in self._of.get(edge, ())]
            if index in contents:
                links.append(shared.Link(self._add(record_digest(contents[index], -1), ())))
            links += [shared.Link(self._add(digest, ())) for digest in told.get(index, ())]
            if not links:
                return
            inputs.append(tuple(sorted(set(links), key=lambda link: (link.record, link.selector))))
        for output in facts.graph.outputs[vertex.digest]:
            edge = Edge(vertex.digest, output)
            self._of[edge] = [self._add(record_digest(digest, output), tuple(inputs)) for digest in map.digests]
            if inputs and edge in results:  # what has no input is a source: cheaper to ask for again than to keep
                for at in self._of[edge]:
                    self._add_result(at, results[edge])

    def _add(self, digest: str, inputs: tuple[tuple[shared.Link, ...], ...]) -> int:
        known = self._records.get((digest, inputs))
        if known is None:
            known = self._records[digest, inputs] = len(self._records)
            self._chains.append(())
        return known

    def _add_result(self, record: int, layers: Sequence[Layer]) -> None:
        chain: list[int] = []
        for layer in layers:
            one = shared.Layer(layer.descriptor.digest, chain[-1] if chain else shared.NO_PARENT)
            at = self._layers.get(one)
            if at is None:
                at = self._layers[one] = len(self.layers)
                self.layers.append(one)
            known = self.blobs.get(one.blob)
            if known is None or layer.created_ns > known.created_ns:  # one blob, made twice: it has one time
                self.blobs[one.blob] = layer
            chain.append(at)
        self._chains[record] = self._chains[record] or tuple(chain)
