"""One build under way: its world, the graphs that were solved in it, and what comes of them.

A frontend may ask for several graphs, one after the other or at the same time;
each is a run of the solver of its own (`drive`), and all of them share the trees,
the images as they were resolved, and what was shown of each step.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from knarr.cache.record import RecordId
from knarr.engine.ahead import Ahead
from knarr.engine.drive import Drive
from knarr.engine.history import Diary
from knarr.engine.recovery import sweep_dead
from knarr.engine.shown import Shown
from knarr.errors import KnarrError, SharedLayerLost
from knarr.llb.ops import Edge, cache_ids
from knarr.ops.exec import StepOptions
from knarr.progress import Warned
from knarr.record import replace
from knarr.scope import Scope
from knarr.session.session import LendsStores, Taker

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.builder import CacheEntry, Export
    from knarr.cache.sharedgraph import SharedGraph
    from knarr.content.lease import Lease
    from knarr.engine.asked import Produced
    from knarr.engine.gateway import EngineGateway
    from knarr.engine.givecache import Giving
    from knarr.engine.governor import Governor
    from knarr.engine.parts import Parts
    from knarr.engine.results import ResultTrees
    from knarr.engine.sharing import Sharing
    from knarr.frontend.gateway import SourceState
    from knarr.frontend.request import FrontendResult, PlatformResult
    from knarr.frontend.sourcequestion import SourceQuestion
    from knarr.llb.ops import Graph, SourceOp
    from knarr.ops.blobs import Blobs
    from knarr.ops.images import Images
    from knarr.ops.trees import DiskTrees
    from knarr.ops.world import World
    from knarr.solver.graph import SolverGraph
    from knarr.spec.descriptor import Descriptor
    from knarr.spec.digest import Digest


class Job:
    """See the module. Made by `Engine.open`; its methods may be called from several threads."""

    def __init__(
        self,
        parts: Parts,
        world: World,
        trees: DiskTrees,
        blobs: Blobs,
        images: Images,
        producers: Callable[[], Produced],
    ) -> None:
        """`producers`: who made the graphs that frontends are given as inputs, in this build and in others."""
        self.producers = producers
        self.parts = parts
        self.world = world
        self.trees = trees
        self.blobs = blobs
        self.images = images
        self.options = StepOptions()
        self.nonce = os.urandom(12).hex()
        self.started_ns = time.time_ns()
        self.cache_from: tuple[CacheEntry, ...] = ()  # shared caches to read
        self.cache_to: tuple[CacheEntry, ...] = ()  # shared caches to write
        self._shared_caches: dict[str, list[SharedGraph]] = {}  # those that were read
        self._scans: dict[Edge, tuple[tuple[str, Graph], ...]] = {}  # what SBOMs tell of besides results
        self.pins: dict[Digest, str] = {}  # by source vertex: the digest or the commit that it was
        self._governor: Governor | None = None
        self.drive: Drive | None = None  # of the graph that is exported, once it is known
        self.looked_for: set[str] = set()  # files of the caller that the frontend asked for
        self.asked_time = False  # a server said when a source was made, and may say otherwise another time
        self.ran_frontend = False  # an image decided what is built: nobody can tell what it looked at
        self._shown = Shown()
        self._forgotten: set[str] = set()  # cache mounts that were emptied
        self._building: set[Digest] = set()  # vertices whose graphs are being solved
        self._lock = threading.Lock()
        self._gateway: EngineGateway | None = None
        self.made: dict[int, Descriptor] = {}  # images, by the numbers of the outputs that made them
        self._lease: Lease | None = None
        self.held = contextlib.ExitStack()  # what must last as long as the job

    def close(self) -> None:
        """Let go of the trees, after all threads of the job have ended."""
        if self._gateway is not None:
            self._gateway.close()
            self.producers().forget(self)
        with self.held:
            self.trees.close()

    def hold(self, *digests: Digest) -> None:
        """Keep content in the store as long as the job lasts, whoever prunes: the frontend has been told of it."""
        with self._lock:
            if self._lease is None:
                self._lease = self.held.enter_context(self.world.store.leases.take())
            lease = self._lease
        lease.add(*digests)

    @property
    def gateway(self) -> EngineGateway:
        """What a frontend outside of the engine asks."""
        from knarr.engine.gateway import EngineGateway

        if self._gateway is None:
            self._gateway = EngineGateway(self)
        return self._gateway

    @property
    def governor(self) -> Governor:
        """Who decides what is fetched."""
        from knarr.engine.governor import Governor

        if self._governor is None:
            self._governor = Governor(self.world.scope, self._looked_at)
        return self._governor

    @property
    def governs(self) -> bool:
        """Whether it is decided what is fetched, or everything is."""
        return self._governor is not None and self._governor.governs

    def _looked_at(self, source: SourceOp, question: SourceQuestion) -> SourceState:
        from knarr.engine import sourcestate

        return sourcestate.of(self.gateway, source, question)

    def note_scans(self, found: PlatformResult) -> None:
        """Keep what the SBOM of a result is to tell of besides: the answer of a frontend has no place for it.

        A client that asks the frontend itself gives back the result alone.
        """
        result = self.governor.result(found) if self.governs else found
        if result.scans and result.graph.root is not None:
            with self._lock:
                self._scans[result.graph.root] = result.scans

    def scans_of(self, found: PlatformResult) -> tuple[tuple[str, Graph], ...]:
        """What the SBOM of a result is to tell of besides, by name."""
        if found.scans or found.graph.root is None:
            return found.scans
        return self._scans.get(found.graph.root, ())

    @property
    def has_gateway(self) -> bool:
        """Whether a frontend outside of the engine has asked anything."""
        return self._gateway is not None

    @property
    def inputs_are_known(self) -> bool:
        """Whether the files and tags it looked at decide what comes of it, as far as the frontend goes."""
        return not (self.ran_frontend or self.asked_time or self.images.used_own_store or self.governs)

    def solve(self, graphs: Sequence[Graph], *, name: str, exports: Sequence[Export] = ()) -> list[RecordId | None]:
        """Solve what the build is about, all platforms as one graph; the record of each, None for scratch.

        `name` is the build's, for its page in the history; `exports` will follow. A
        failure cancels the whole job.
        """
        diary = Diary(self.world.settings.root, self.world.cache)
        ahead = Ahead(exports, self.trees, self.blobs, self.world.scope)
        self.drive = self._drive(graphs, self.world, diary, ahead)
        try:
            found: Mapping[Edge, RecordId] = self.drive.run()
        finally:
            with contextlib.suppress(OSError):  # notes: a disk too full for them neither fails a build nor hides why
                self.drive.save_memories()
                diary.write(name)
        return [None if graph.root is None else found[graph.root] for graph in graphs]

    def evaluate(self, graph: Graph, scope: Scope) -> RecordId | None:
        """Solve a graph that a frontend asks for; its record, None for scratch.

        Its threads are those of `scope`, which alone is cancelled when a step fails.
        What that step leaves lasts as long as the job.
        """
        if self.governs:
            graph = self.governor.graph(graph)
        if graph.root is None:
            return None
        try:
            return self._evaluated(graph, graph.root, scope)
        except SharedLayerLost as error:
            from knarr.engine.recovery import forget_shared

            # As with a whole build: nothing that a cache promised may fail it.
            self.world.sink.send(Warned("shared cache", f"{error.message}; the steps run instead"))
            self.cache_from = ()
            forget_shared(self.parts.cache)
            return self._evaluated(graph, graph.root, scope)

    def _evaluated(self, graph: Graph, root: Edge, scope: Scope) -> RecordId:
        world = replace(self.world, scope=scope, keeps_remains=True, mount_seeds=[])
        diary = Diary(world.settings.root, world.cache)
        drive = self._drive([graph], world, diary, None)
        found: Mapping[Edge, RecordId] = drive.run()
        with contextlib.suppress(OSError):
            drive.save_memories()
        if drive.sharing is not None:
            # Whoever asks for a result looks into it: a layer that cannot be had is told here, where it can be mended.
            with self.trees.readable(found[root]):
                pass
        return found[root]

    def _sharing(self, graph: SolverGraph, world: World, *, gives: bool) -> Sharing | None:
        if not self.cache_from and not (gives and self.cache_to):
            return None
        from knarr.engine.sharing import Sharing

        return Sharing(world, self.trees, self.blobs, graph, self.cache_from, loaded=self._shared_caches)

    def _drive(self, graphs: Sequence[Graph], world: World, diary: Diary, ahead: Ahead | None) -> Drive:
        from knarr.ops import entitlements
        from knarr.solver.graph import merge, on_platform
        from knarr.spec.platform import host_platform

        graph = on_platform(merge(graphs), host_platform())
        entitlements.check(graph.vertices.values(), self.options.allowed, world.settings.cdi_dirs)
        self._forget_mounts(graph)
        return Drive(
            world,
            self.trees,
            self.images,
            graph,
            self.options,
            diary,
            self._shown,
            nonce=self.nonce,
            sweep=partial(sweep_dead, self.parts),
            ahead=ahead,
            sharing=self._sharing(graph, world, gives=ahead is not None),
            nested=partial(self._nested, world.scope),
            pins=self.pins,
        )

    def _forget_mounts(self, graph: SolverGraph) -> None:
        """Steps that no cache may answer find their cache mounts empty, too: once in a build, as with BuildKit."""
        ids = {id for vertex in graph.vertices.values() if vertex.metadata.ignore_cache for id in cache_ids(vertex.op)}
        with self._lock:
            fresh = ids - self._forgotten
            self._forgotten |= fresh
        if fresh:
            from knarr.ops.cachemount import forget

            forget(self.world.settings.root, fresh)

    def _nested(self, scope: Scope, digest: Digest, graph: Graph) -> RecordId | None:
        """Solve the graph that the vertex `digest` has found in a file.

        Raises:
            KnarrError: the vertex is part of it, so that it would never end.
        """
        with self._lock:
            if not self._building.isdisjoint(graph.vertices) or digest in graph.vertices:
                raise KnarrError("the build graph reads a graph that it is part of itself")
            self._building.add(digest)
        try:
            return self.evaluate(graph, scope)
        finally:
            with self._lock:
                self._building.discard(digest)

    def export(
        self,
        exports: Sequence[Export],
        frontend: FrontendResult,
        records: list[RecordId | None],
        attestations: Sequence[Sequence[Attestation]] = (),
    ) -> Mapping[str, Any]:
        """Carry out `exports` for what was solved; returns what `--metadata-file` tells."""
        from knarr.engine.results import ResultTrees
        from knarr.export.context import ExportContext, Result
        from knarr.export.export import export

        metadata: Mapping[str, Any] = {}
        if exports or self.cache_to:
            world = self.world
            context = ExportContext(
                world.settings,
                world.store,
                world.registry,
                world.scope,
                world.sink,
                self.started_ns,
                taker=world.session if isinstance(world.session, Taker) else None,
                stores=world.session if isinstance(world.session, LendsStores) else None,
                made=self.made,
            )
            trees = ResultTrees(self.trees, self.blobs, world.store)
            giving = self._giving(trees, frontend)
            is_inline = any(entry.type == "inline" for entry in self.cache_to)
            inline = giving.inline if giving is not None and is_inline else None
            metadata = export(exports, Result(frontend, records, trees, inline, attestations), context)
        self.trees.settle()
        if self.cache_to and giving is not None:
            from knarr.engine.givecache import give

            told = give(self.cache_to, giving, trees, context)
            if context.stores is not None:
                metadata = {**metadata, **told}
        return metadata

    def _giving(self, trees: ResultTrees, frontend: FrontendResult) -> Giving | None:
        if not self.cache_to or self.drive is None or self.drive.sharing is None:
            return None
        from knarr.engine.givecache import Giving

        return Giving(self.drive, self.drive.sharing, trees, [found.graph.root for found in frontend.results])
