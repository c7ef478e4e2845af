"""The engine: one build from a request to a result, in the calling process.

engine = Engine(Settings.from_environment(os.environ))
result = engine.solve(request, session, sink)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from knarr.builder import SolveRequest, SolveResult
from knarr.cache.record import RecordId
from knarr.config import Settings
from knarr.engine.bridge import EngineBridge
from knarr.engine.definition import told
from knarr.engine.drive import Drive
from knarr.engine.history import Diary
from knarr.engine.parts import Parts
from knarr.engine.recovery import owned, sweep_dead
from knarr.errors import KnarrError
from knarr.frontend.request import FrontendRequest, FrontendResult
from knarr.llb.ops import Edge
from knarr.ops.blobs import Blobs
from knarr.ops.exec import StepOptions
from knarr.ops.images import Images
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.progress import Sink
from knarr.scope import Scope, afterwards
from knarr.session.session import Session
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.remote.settings import RegistrySettings


class Job:
    """One build under way: its world, and what it has come to so far. `drive` comes when the graph is known."""

    def __init__(self, parts: Parts, world: World, trees: DiskTrees, blobs: Blobs, images: Images) -> None:
        self.parts = parts
        self.world = world
        self.trees = trees
        self.blobs = blobs
        self.images = images
        self.nonce = os.urandom(12).hex()
        self.started_ns = time.time_ns()
        self.drive: Drive | None = None
        self.looked_for: set[str] = set()  # files of the caller that the frontend asked for


class Engine:
    """The `Builder` that builds here. One engine may solve several requests, also at once.

    `registry_settings` is asked when a registry is first needed (proxies, trust of this user).
    """

    def __init__(self, settings: Settings, *, registry_settings: Callable[[], RegistrySettings] | None = None) -> None:
        self._settings = settings
        self._registry_settings = registry_settings
        self.last_job: Job | None = None  # for the fingerprint and for tests

    def solve(self, request: SolveRequest, session: Session, sink: Sink, *, scope: Scope | None = None) -> SolveResult:
        from knarr.snapshot.namespace import private_mounts

        private_mounts()
        os.umask(0o022)  # whatever the caller's: users of an image must read it, strangers must not write our state
        mine = Scope()
        parts = Parts(self._settings, session.credentials, self._registry_settings, scope=mine)
        parts.prepare()
        try:
            # The claim is the last to go: who is killed while closing has left something behind.
            with owned(parts), afterwards(parts.close), (scope or mine).on_cancel(mine.cancel):
                return self._build(parts, request, session, sink, mine)
        except (KnarrError, OSError) as error:
            raise _explained(error, request.frontend) from error.__cause__

    def _build(self, parts: Parts, request: SolveRequest, session: Session, sink: Sink, scope: Scope) -> SolveResult:
        job = self._begin(parts, request, session, sink, scope)
        self.last_job = job
        with afterwards(job.trees.close), scope:  # threads have ended when the trees are closed
            return self._solve(job, request)

    def _begin(self, parts: Parts, request: SolveRequest, session: Session, sink: Sink, scope: Scope) -> Job:
        jobs = max(1, os.cpu_count() or 1)
        root = self._settings.root
        blobs = Blobs(
            parts.store,
            parts.cache,
            parts.snapshotter,
            parts.registry,
            scope,
            sink,
            flights=root / "flights",
            jobs=jobs,
        )
        trees = DiskTrees(parts.snapshotter, parts.cache, blobs, root, scope)
        mode = request.frontend.resolve_mode
        images = Images(parts.store, parts.cache, parts.registry, mode="pull" if mode == "pull" else "default")
        world = World(
            self._settings,
            parts.store,
            parts.cache,
            parts.snapshotter,
            trees,
            session,
            scope,
            sink,
            parts.registry,
            parts.runtime,
        )
        return Job(parts, world, trees, blobs, images)

    def _solve(self, job: Job, request: SolveRequest) -> SolveResult:
        timings: dict[str, float] = {}
        with _Timed(timings, "compile"):
            frontend = _compile(job, request.frontend)
        with _Timed(timings, "solve"):
            records = _run(job, request, frontend)
        with _Timed(timings, "export"):
            metadata = _export(job, request, frontend, records)
            job.trees.settle()
        return _result(metadata, timings)


class _Timed:
    """Adds the seconds its block took to `timings[phase]`."""

    def __init__(self, timings: dict[str, float], phase: str) -> None:
        self._timings, self._phase = timings, phase

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *failure: object) -> None:
        self._timings[self._phase] = time.monotonic() - self._start


def _compile(job: Job, request: FrontendRequest) -> FrontendResult:
    from knarr.frontend.dockerfile.compile import compile as compile_dockerfile

    world = job.world
    bridge = EngineBridge(job.images, world.session, world.sink)
    job.looked_for = bridge.looked_for
    with told(request, world.sink) as warnings:
        return compile_dockerfile(request, bridge, warnings=warnings)


def _run(job: Job, request: SolveRequest, frontend: FrontendResult) -> list[RecordId | None]:
    """Solve all platforms as one graph; the record of each platform's result, None for scratch."""
    from knarr.solver.graph import merge, on_platform
    from knarr.spec.platform import host_platform

    graphs = [result.graph for result in frontend.results]
    options = StepOptions(shm_size_bytes=request.frontend.shm_size_bytes or 64 * 2**20)
    diary = Diary(job.world.settings.root, job.world.cache)
    sweep = partial(sweep_dead, job.parts)
    graph = on_platform(merge(graphs), host_platform())
    job.drive = Drive(job.world, job.trees, job.images, graph, options, diary, nonce=job.nonce, sweep=sweep)
    try:
        found: Mapping[Edge, RecordId] = job.drive.run()
    finally:
        with contextlib.suppress(OSError):  # notes: a disk too full for them does not fail a build, nor hide why it did
            job.drive.save_memories()
            diary.write(request.name)
    return [None if graph.root is None else found[graph.root] for graph in graphs]


def _export(
    job: Job, request: SolveRequest, frontend: FrontendResult, records: list[RecordId | None]
) -> Mapping[str, Any]:
    from knarr.engine.results import ResultTrees
    from knarr.export.context import ExportContext, Result
    from knarr.export.export import export

    if not request.exports:
        return {}
    world = job.world
    context = ExportContext(world.settings, world.store, world.registry, world.scope, world.sink, job.started_ns)
    result = Result(frontend, records, ResultTrees(job.trees, job.blobs, world.store))
    return export(request.exports, result, context)


def _result(metadata: Mapping[str, Any], timings: Mapping[str, float]) -> SolveResult:
    digest = metadata.get("containerimage.digest")
    config = metadata.get("containerimage.config.digest")
    return SolveResult(
        Digest.parse(digest) if digest else None,
        Digest.parse(config) if config else None,
        dict(metadata),
        dict(timings),
    )


def _explained(error: KnarrError | OSError, request: FrontendRequest) -> KnarrError | OSError:
    """The failure with what only the whole build knows of it."""
    from knarr.engine import blame

    if isinstance(error, BrokenPipeError):
        return error
    known = error if isinstance(error, KnarrError) else blame.translated(error)
    return blame.with_request(known, request)
