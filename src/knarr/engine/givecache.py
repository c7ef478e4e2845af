"""What a build gives to shared caches: the inline cache of its images, and every `--cache-to`.

Which results go along: in mode=min those made of the result images' own layers,
whichever step they belong to; in mode=max every step's that is still there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from knarr.cache.record import CONTENT
from knarr.errors import ContentError, KnarrError
from knarr.export.cacheoptions import CacheTarget, cache_target
from knarr.export.cacherecords import Built, build, build_inline
from knarr.export.trees import LayerForm
from knarr.export.vertex import Vertex as Shown
from knarr.image.copy import each
from knarr.llb.ops import Edge, Vertex
from knarr.progress import Warned
from knarr.record import replace

if TYPE_CHECKING:
    from knarr.builder import CacheEntry
    from knarr.cache.record import Record, RecordId
    from knarr.engine.drive import Drive
    from knarr.engine.results import ResultTrees
    from knarr.engine.sharing import Sharing
    from knarr.export.context import ExportContext
    from knarr.export.trees import Layer
    from knarr.layer.compress import Compression
    from knarr.solver.graph import SolverGraph
    from knarr.solver.sharedkeys import SharedMap
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest

_JOBS = 4  # steps packed at a time; each is compressed by all cores


class Giving:
    """A solved build, as the writers of shared caches see it. Implements `cacherecords.Facts`."""

    def __init__(self, drive: Drive, sharing: Sharing, trees: ResultTrees, goals: Sequence[Edge | None]) -> None:
        self._drive = drive
        self._sharing = sharing
        self._results = trees
        self._goals = tuple(goals)

    @property
    def graph(self) -> SolverGraph:
        return self._drive.graph

    def map(self, vertex: Vertex) -> SharedMap:
        return self._sharing.map(vertex)

    def contents(self, vertex: Vertex) -> Mapping[int, str]:
        """The contents that were looked at, and those that can be: a step found by definition did not ask for them."""
        records = [self._record(edge) for edge in vertex.inputs]
        known = self._sharing.contents(vertex, records)
        for index, (dep, record) in enumerate(zip(self.map(vertex).deps, records, strict=False)):
            if dep.content and index not in known and record is not None and self._drive.is_unpacked(record):
                with suppress(ContentError):  # then it is known by definition only
                    for selection in dep.content:
                        self._sharing.hash(record, selection)
        return self._sharing.contents(vertex, records)

    def told(self, vertex: Vertex) -> Mapping[int, Sequence[str]]:
        record = self._record(Edge(vertex.digest, self.graph.outputs[vertex.digest][0]))
        known = self._drive.known(record) if record is not None else None
        notes = known.history if known is not None else {}
        return {
            int(name.removeprefix(CONTENT)): text.split() for name, text in notes.items() if name.startswith(CONTENT)
        }

    def _record(self, edge: Edge) -> RecordId | None:
        return self._drive.machine.record(edge) or self._drive.machine.identity(edge)

    # --- cache mounts

    def mounts(self, target: CacheTarget, shown: Shown) -> Sequence[Descriptor]:
        """The cache mounts that `target` asks for, as layers."""
        if not target.mounts:
            return ()
        from knarr.engine.givemounts import pack_mounts

        world, blobs = self._drive.world, self._results.blobs
        return pack_mounts(target.mounts, target.compression, world, blobs, self._sharing, shown)

    # --- results

    def inline(self, platform: int, image: Sequence[Layer]) -> bytes:
        """The records for the config of the image of one platform, made of its layers `image`; empty for none."""
        goal = self._goals[platform]
        if goal is None:
            return b""
        return build_inline(self, goal, image, self._made_of(self._pieces(goal, image)))

    def smallest(self, compression: Compression) -> Built:
        """What mode=min gives."""
        pieces: dict[str, Layer] = {}
        for goal in self._goals:
            record = self._record(goal) if goal is not None else None
            if goal is not None and record is not None:
                pieces.update(self._pieces(goal, tuple(self._results.layers(record, LayerForm(compression)))))
        return build(self, self._made_of(pieces))

    def largest(self, compression: Compression) -> Built:
        """What mode=max gives."""

        def layers_of(edge: Edge) -> tuple[Layer, ...]:
            record = self._record(edge)
            if record is None or not self._drive.is_available(record):
                return ()
            return tuple(self._results.layers(record, LayerForm(compression)))

        edges = [edge for edge in self._edges() if self.graph.vertices[edge.digest].inputs]
        packed = each(layers_of, edges, scope=self._drive.world.scope, jobs=_JOBS)
        return build(self, {edge: layers for edge, layers in zip(edges, packed, strict=True) if layers})

    def _edges(self) -> Iterator[Edge]:
        for digest, outputs in self.graph.outputs.items():
            for output in outputs:
                yield Edge(digest, output)

    def _changes(self, record: RecordId) -> list[Record]:
        return [self._results.trees.change(link) for link in self._results.trees.chain(record)]

    def _pieces(self, goal: Edge, layers: Sequence[Layer]) -> dict[str, Layer]:
        """The layers of a goal by the records that they are the changes of."""
        record = self._record(goal)
        changes = self._changes(record) if record is not None else []
        if len(changes) != len(layers):
            return {}  # squashed: no layer is a step's any more
        return {change.id: layer for change, layer in zip(changes, layers, strict=True)}

    def _made_of(self, pieces: Mapping[str, Layer]) -> dict[Edge, tuple[Layer, ...]]:
        """The results that are made of `pieces` and nothing else.

        A layer is known by its record, or by its bytes: a step and one above it, each taken from a shared cache, have
        records of their own of the layer that they have in common.
        """
        by_content: dict[Digest | None, Layer] = {layer.diff_id: layer for layer in pieces.values()}
        found = {}
        for edge in self._edges():
            record = self._record(edge)
            if record is None or self._drive.known(record) is None:
                continue
            layers = [pieces.get(one.id) or by_content.get(one.diff_id) for one in self._changes(record)]
            whole = tuple(layer for layer in layers if layer is not None)
            if whole and len(whole) == len(layers):
                found[edge] = whole
        return found


def give(entries: Sequence[CacheEntry], giving: Giving, results: ResultTrees, context: ExportContext) -> dict[str, str]:
    """Write every shared cache that is asked for; returns what a caller is told who keeps the index of its directory.

    Raises:
        KnarrError: one of them cannot be written and does not ignore it; those before it are complete.
    """
    told: dict[str, str] = {}
    for entry in entries:
        target = cache_target(entry)
        if target.kind == "inline":
            continue  # written with the image
        try:
            root = _give_one(target, giving, results, context)
            if root is not None and target.kind == "local":
                told["cache.manifest"] = json.dumps(root.to_json())
        except KnarrError as error:
            if not target.ignore_error:
                raise error.with_context(cache=target.place) from error.__cause__
            text = f"the cache was not written to {target.place}: {error.message}"
            context.sink.send(Warned(_name(target), text, at_ns=time.time_ns()))
    return told


def _name(target: CacheTarget) -> str:
    return "exporting cache to registry" if target.kind == "registry" else "exporting cache to client directory"


def _give_one(target: CacheTarget, giving: Giving, results: ResultTrees, context: ExportContext) -> Descriptor | None:
    from knarr.export.cache import export_cache

    with Shown(context.sink, _name(target), id=f"{_name(target)} {target.place}") as shown:
        built = giving.largest(target.compression) if target.all_steps else giving.smallest(target.compression)
        built = replace(built, mounts=tuple(giving.mounts(target, shown)))
        if not built.layers and not built.mounts:
            shown.tell("skipping cache export for empty result", 0, 0, time.time_ns(), done=True)
            return None
        return export_cache(target, built, results.fetcher(), context, shown)
