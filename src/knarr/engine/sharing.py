"""What one build takes from shared caches, and what it notes so that it can write one.

The solver's machine looks a key up; what the own cache does not have is looked for
in the caches of `--cache-from`, by BuildKit's keys (`solver.sharedkeys`). A result
that is found becomes a record of the own cache, under the key that was asked for,
whose layers stay where they are until somebody needs them as a tree or as bytes.

The caches are read while the build begins, and waited for at the first key that
the own cache does not have: a build that needs nothing waits for nobody.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from knarr.cache.record import CONTENT, SHARED, Record, RecordId
from knarr.cache.sharedgraph import CREATED
from knarr.cache.sharedhash import SharedHasher
from knarr.cache.sharedmatch import Matches
from knarr.cache.statcache import StatCache
from knarr.errors import Bug, ContentError
from knarr.export.clock import nanoseconds
from knarr.llb.ops import Edge, SourceOp, Vertex
from knarr.progress import VertexDone, VertexStarted, Warned
from knarr.session.session import LendsStores
from knarr.solver import messages as m
from knarr.solver.keys import Selection
from knarr.solver.sharedkeys import SharedMap, content_digest, shared_map, source_map
from knarr.spec.config import chain_id
from knarr.spec.mediatype import ESTARGZ

if TYPE_CHECKING:
    from knarr.builder import CacheEntry
    from knarr.cache.sharedgraph import SharedGraph, SharedResult
    from knarr.cache.sharedmounts import SharedMount
    from knarr.ops.blobs import Blobs
    from knarr.ops.trees import DiskTrees
    from knarr.ops.world import World
    from knarr.solver.graph import SolverGraph
    from knarr.solver.machine import Machine
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest


class Sharing:
    """The shared caches of one build. `look_up` is for the machine's thread, the rest for any."""

    def __init__(
        self,
        world: World,
        trees: DiskTrees,
        blobs: Blobs,
        graph: SolverGraph,
        sources: Sequence[CacheEntry],
        *,
        loaded: dict[str, list[SharedGraph]],
    ) -> None:
        """`loaded` are the caches that the build has read before; those that are read now are added."""
        self._world = world
        self._loaded = loaded
        self._trees = trees
        self._blobs = blobs
        self._graph = graph
        self._maps: dict[Digest, SharedMap] = {}
        self._checksums: dict[tuple[RecordId, Selection], str] = {}
        self._hashers: dict[RecordId, SharedHasher] = {}
        self._memories: list[StatCache] = []
        self._asked: list[tuple[Vertex, tuple[int, ...]]] = []  # not matched yet: nobody needed it
        self._matches: Matches | None = None
        self._has_sources = bool(sources)
        self._loading = [world.scope.attempt(self._load, source) for source in sources]
        self._lock = threading.Lock()
        world.mount_seeds.append(self.seed)
        self._promised: set[Digest] = set()  # vertices that a shared cache says it has
        self._held: set[Digest] = set()  # those that would have been told of as found

    # --- what is learned on the way

    def resolved(self, vertex: Digest, keys: Sequence[str]) -> None:
        """A source turned out to be what goes by `keys` (see `sharedkeys.source_map`)."""
        with self._lock:
            self._maps[vertex] = source_map(*keys)

    def hash(self, record: RecordId, selection: Selection) -> None:
        """Note the checksum of what is selected of a tree."""
        with self._trees.readable(record) as tree:
            if self._trees.lent(record) is None:
                hasher = SharedHasher(tree.root, check=self._world.scope.check)
            else:
                hasher = self._hasher(record)
            self._checksums[record, selection] = hasher.checksum_of(selection)

    def _hasher(self, record: RecordId) -> SharedHasher:
        """The hasher of a lent directory, which remembers the checksums of files that keep their stat data."""
        with self._lock:
            hasher = self._hashers.get(record)
            tree = self._trees.lent(record)
            if hasher is None and tree is not None:
                from pathlib import Path

                places = self._world.settings.root / "contexts" / "shared"
                memory = StatCache.for_directory(places, Path(tree.root))
                self._memories.append(memory)
                hasher = SharedHasher(
                    tree.root, hidden=tree.hidden, is_context=True, cache=memory, check=self._world.scope.check
                )
                self._hashers[record] = hasher
            if hasher is None:
                raise Bug(f"{record} was not lent")
            return hasher

    def save_memories(self) -> None:
        """Keep what was learned about the files of lent directories for the next build."""
        for memory in self._memories:
            memory.save()

    def map(self, vertex: Vertex) -> SharedMap:
        """What of `vertex` counts in shared caches; of a source that only this session has, nothing."""
        known = self._maps.get(vertex.digest)
        if known is None:
            known = SharedMap(()) if isinstance(vertex.op, SourceOp) else shared_map(vertex)
            self._maps[vertex.digest] = known
        return known

    def contents(self, vertex: Vertex, records: Sequence[RecordId | None]) -> dict[int, str]:
        """The digests of the inputs' contents, as far as they are known; `records` are the inputs' own."""
        found = {}
        for index, (dep, record) in enumerate(zip(self.map(vertex).deps, records, strict=False)):
            checksums = [self._checksums.get((record or "", one)) for one in dep.content]
            whole = [checksum for checksum in checksums if checksum is not None]
            if whole and len(whole) == len(checksums):
                found[index] = content_digest(whole)
        return found

    # --- telling

    def hold(self, vertex: Digest) -> bool:
        """Whether it is too early to say that `vertex` was found: a shared cache has promised it, and nobody looked."""
        if vertex not in self._promised:
            return False
        self._held.add(vertex)
        return True

    def release(self, vertex: Digest) -> bool:
        """The promise of `vertex` is settled; whether telling of it was held back."""
        self._promised.discard(vertex)
        was_held = vertex in self._held
        self._held.discard(vertex)
        return was_held

    def held(self) -> tuple[Digest, ...]:
        """The promises that nobody needed to look at."""
        return tuple(self._held)

    # --- cache mounts

    def mounts(self) -> list[SharedMount]:
        """What the shared caches have of cache mounts; of two caches the first that was named counts."""
        return [mount for outcome in self._loading for graph in outcome.result() for mount in graph.mounts]

    def seed(self, key: str) -> SharedMount | None:
        """What a cache mount begins with when there is none of this key yet."""
        return next((mount for mount in self.mounts() if mount.key == key), None)

    # --- looking up

    def look_up(self, query: m.Query, hits: Mapping[int, m.Hit], machine: Machine) -> Mapping[int, m.Hit]:
        """`hits` of the own cache, completed with what the shared caches have."""
        if not self._has_sources:
            return hits
        vertex = self._graph.vertices[query.vertex]
        self._asked.append((vertex, tuple(output for output, _ in query.keys)))
        missing = [(output, key) for output, key in query.keys if not (output in hits and hits[output].usable)]
        if not missing:
            return hits
        found: dict[int, list[SharedResult] | None] = {}
        for asked, outputs in self._asked:
            found = self._match(asked, outputs, machine)
        self._asked.clear()
        answer = dict(hits)
        for output, key in missing:
            results = found.get(output)
            name = hits[output].record if output in hits else key
            if results:
                self._adopt(results[0], name, key, Edge(vertex.digest, output))
                self._promised.add(vertex.digest)
                answer[output] = m.Hit(name)
            elif results is not None:
                if output not in hits:  # so that the next build knows it without the shared cache
                    now = time.time_ns()
                    notes = self._contents_of(Edge(vertex.digest, output))
                    known = Record(name, description=vertex.metadata.name, created_ns=now, used_ns=now, history=notes)
                    self._world.cache.save(known, (key,))
                answer[output] = m.Hit(name, usable=False)
        return answer

    def _match(
        self, vertex: Vertex, outputs: tuple[int, ...], machine: Machine
    ) -> dict[int, list[SharedResult] | None]:
        if self._matches is None:
            self._matches = Matches([graph for outcome in self._loading for graph in outcome.result()])
        for edge in vertex.inputs:
            source = self._graph.vertices[edge.digest]
            if isinstance(source.op, SourceOp):
                self._matches.source(edge.digest, self.map(source))
        records = [machine.record(edge) for edge in vertex.inputs]
        return self._matches.vertex(vertex, self.map(vertex), outputs, self.contents(vertex, records))

    def _contents_of(self, edge: Edge) -> dict[str, str]:
        known = self._matches.contents(edge) if self._matches is not None else {}
        return {f"{CONTENT}{number}": " ".join(sorted(digests)) for number, digests in known.items() if digests}

    def _adopt(self, result: SharedResult, name: RecordId, key: str, edge: Edge) -> None:
        """Make a record of the own cache of a shared result; its lower layers become records below it."""
        parent: RecordId | None = None
        chain = ""
        below = []
        for blob, diff_id in result.layers[:-1]:
            chain = chain_id(chain, diff_id)
            own = f"layer:{chain}"
            if self._world.cache.get(own) is None:
                # Not under the name of a base image's layer: only a manifest of that image says what it is.
                text = f"{parent} {blob.digest} {diff_id}"
                own = "shared:" + hashlib.sha256(text.encode()).hexdigest()
                below.append(self._record(own, parent, blob, diff_id, result, "layer of a shared cache"))
            parent = own
        if below:
            self._world.cache.ensure(below)
        blob, diff_id = result.layers[-1]
        step = self._graph.vertices[edge.digest].metadata.name
        top = self._record(name, parent, blob, diff_id, result, step, self._contents_of(edge))
        self._world.cache.save(top, (key,))

    def _record(
        self,
        id: RecordId,
        parent: RecordId | None,
        blob: Descriptor,
        diff_id: Digest,
        result: SharedResult,
        description: str,
        notes: Mapping[str, str] = MappingProxyType({}),
    ) -> Record:
        origin = result.origin
        self._blobs.lend(blob.digest, origin.place)
        return Record(
            id,
            parent,
            blob=blob.with_only(ESTARGZ),
            diff_id=diff_id,
            remote=(origin.repository,) if origin.repository else (),
            description=description,
            created_ns=_time(blob.annotations.get(CREATED, "")),
            used_ns=time.time_ns(),
            history={SHARED: origin.name, **notes},
        )

    # --- reading the caches

    def _load(self, source: CacheEntry) -> list[SharedGraph]:
        from knarr.cache.sharedsource import load

        known = self._loaded.get(repr(source))
        if known is not None:
            return known
        name = f"importing cache manifest from {source.attrs.get('ref') or source.attrs.get('src', '')}"
        self._world.sink.send(VertexStarted(name, name, at_ns=time.time_ns()))
        told: list[str] = []
        try:
            session = self._world.session
            lent = (lambda src: session.store(f"local:{src}")) if isinstance(session, LendsStores) else None
            found = load(source.type, source.attrs, self._world.registry, told.append, lent=lent)
            self._loaded[repr(source)] = found
            return found
        finally:
            for text in told:
                self._world.sink.send(Warned(name, text, at_ns=time.time_ns()))
            self._world.sink.send(VertexDone(name, at_ns=time.time_ns()))


def _time(text: str) -> int:
    try:
        return nanoseconds(text) if text else 0
    except ContentError:
        return 0
