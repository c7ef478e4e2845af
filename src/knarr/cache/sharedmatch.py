"""Which records of shared caches match the vertices of a build, as the build comes to know them.

Inputs first, as the solver's machine asks: what matches a vertex follows from what
matched its inputs, and from the contents of its inputs that are known by then.

    matches = Matches(graphs)
    matches.source(base.digest, source_map(key))
    found = matches.vertex(step, shared_map(step), [0], contents={})
    found[0]          # None: no cache knows it; []: its key is known, without a result; else results
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knarr.cache.sharedgraph import SharedGraph, SharedResult, Way
from knarr.llb.ops import Edge, Vertex
from knarr.solver.sharedkeys import SharedMap, record_digest
from knarr.spec.digest import Digest


class Matches:
    """What matched so far, for each edge and each cache. One thread at a time."""

    def __init__(self, graphs: Sequence[SharedGraph]) -> None:
        self._graphs = tuple(graphs)
        self._found: dict[Edge, list[set[int]]] = {}

    def source(self, vertex: Digest, map: SharedMap) -> None:
        """Note what a source turned out to be."""
        digests = [record_digest(digest, 0) for digest in map.digests]
        self._found[Edge(vertex)] = [{at for digest in digests for at in graph.roots(digest)} for graph in self._graphs]

    def vertex(
        self, vertex: Vertex, map: SharedMap, outputs: Sequence[int], contents: Mapping[int, str]
    ) -> dict[int, list[SharedResult] | None]:
        """What the caches have for outputs of `vertex`; `contents` are digests of inputs, by input."""
        answer: dict[int, list[SharedResult] | None] = {}
        for output in outputs:
            records: list[set[int]] = []
            results: list[SharedResult] = []
            for number, graph in enumerate(self._graphs):
                ways = [self._ways(vertex, map, index, contents, number) for index in range(len(vertex.inputs))]
                digests = [record_digest(digest, output) for digest in map.digests]
                here = {at for digest in digests for at in graph.find(digest, ways)}
                records.append(here)
                results += graph.results(here)
            self._found[Edge(vertex.digest, output)] = records
            answer[output] = results if any(records) else None
        return answer

    def contents(self, edge: Edge) -> dict[int, set[str]]:
        """By input, the digests of the records of contents that `edge` is known by."""
        found: dict[int, set[str]] = {}
        for graph, records in zip(self._graphs, self._found.get(edge, ()), strict=False):
            for number, digests in graph.contents(records).items():
                found.setdefault(number, set()).update(digests)
        return found

    def _ways(self, vertex: Vertex, map: SharedMap, index: int, contents: Mapping[int, str], number: int) -> list[Way]:
        by_definition = self._found.get(vertex.inputs[index])
        selector = map.deps[index].selector
        ways = [(at, selector) for at in by_definition[number]] if by_definition is not None else []
        if index in contents:
            ways += [(at, "") for at in self._graphs[number].roots(record_digest(contents[index], -1))]
        return ways
