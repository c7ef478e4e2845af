"""The engine: one build from a request to a result, in the calling process.

engine = Engine(Settings.from_environment(os.environ))
result = engine.solve(request, session, sink)
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from knarr.attest.wanted import SBOM
from knarr.builder import SolveRequest, SolveResult
from knarr.config import Settings
from knarr.engine.bridge import EngineBridge
from knarr.engine.definition import told
from knarr.engine.job import Job
from knarr.engine.parts import Parts, RegistryClient
from knarr.engine.recovery import forget_shared, owned
from knarr.errors import KnarrError, NotFound, SharedLayerLost
from knarr.frontend.request import FrontendRequest, FrontendResult
from knarr.llb.ops import ResolveMode
from knarr.ops import entitlements
from knarr.ops.blobs import Blobs
from knarr.ops.exec import StepOptions
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.progress import Sink, Warned
from knarr.record import replace
from knarr.scope import Scope, afterwards
from knarr.session.session import IssuesTokens, Session
from knarr.spec.digest import Digest

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.cache.record import RecordId
    from knarr.engine.asked import Produced
    from knarr.engine.attesting import Solved
    from knarr.remote.settings import RegistrySettings


class Engine:
    """The `Builder` that builds here. One engine may solve several requests, also at once.

    `registry_settings` is asked when a registry is first needed (proxies, trust of this user);
    `registry_client` makes what asks registries, where it is not the usual client.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        registry_settings: Callable[[], RegistrySettings] | None = None,
        registry_client: RegistryClient | None = None,
    ) -> None:
        self._settings = settings
        self._registry_client = registry_client
        self._registry_settings = registry_settings
        self.last_job: Job | None = None  # for the fingerprint and for tests
        self._lock = threading.Lock()
        self._produced: Produced | None = None

    def solve(self, request: SolveRequest, session: Session, sink: Sink, *, scope: Scope | None = None) -> SolveResult:
        try:
            return self._once(request, session, sink, scope)
        except SharedLayerLost as error:
            # Nothing that a cache promised may fail a build: the steps are there, and so is what they need.
            sink.send(Warned("shared cache", f"{error.message}; the build begins again without it"))
            return self._once(replace(request, cache_from=()), session, sink, scope, anew=True)

    def _once(
        self, request: SolveRequest, session: Session, sink: Sink, scope: Scope | None, *, anew: bool = False
    ) -> SolveResult:
        """One attempt; `anew` forgets first what was taken from shared caches."""
        try:
            with self.open(session, sink, scope=scope, resolve_mode=request.frontend.resolve_mode) as job:
                if anew:
                    forget_shared(job.parts.cache)
                return _solve(job, request)
        except (KnarrError, OSError) as error:
            raise _explained(error, request.frontend) from error.__cause__

    @contextmanager
    def open(
        self, session: Session, sink: Sink, *, scope: Scope | None = None, resolve_mode: ResolveMode = "default"
    ) -> Iterator[Job]:
        """A job: what a build needs, for as long as the block lasts. All its threads have ended when it is left.

        Cancelling `scope` cancels the job.
        """
        from knarr.snapshot.namespace import private_mounts

        private_mounts()
        os.umask(0o022)  # whatever the caller's: users of an image must read it, strangers must not write our state
        mine = Scope()
        parts = Parts(
            self._settings,
            session.credentials,
            self._registry_settings,
            scope=mine,
            registry_client=self._registry_client,
            issuer=session if isinstance(session, IssuesTokens) else None,
        )
        parts.prepare()
        # The claim is the last to go: who is killed while closing has left something behind.
        with owned(parts), afterwards(parts.close), (scope or mine).on_cancel(mine.cancel):
            job = self._begin(parts, session, sink, mine, resolve_mode)
            self.last_job = job
            with afterwards(job.close), mine:  # threads have ended when the trees are closed
                yield job

    def _begin(self, parts: Parts, session: Session, sink: Sink, scope: Scope, resolve_mode: ResolveMode) -> Job:
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
        images = parts.images(resolve_mode)
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
        return Job(parts, world, trees, blobs, images, self._known_producers)

    def _known_producers(self) -> Produced:
        """Who made the graphs that frontends are given, in all builds of this engine."""
        from knarr.engine.asked import Produced

        with self._lock:
            if self._produced is None:
                self._produced = Produced()
            return self._produced


def _solve(job: Job, request: SolveRequest) -> SolveResult:
    timings: dict[str, float] = {}
    shm_size = request.frontend.shm_size_bytes or 64 * 2**20
    job.options = StepOptions(shm_size_bytes=shm_size, allowed=entitlements.parse(request.allow))
    job.cache_from, job.cache_to = request.cache_from, request.cache_to
    if request.source_policies:
        job.governor.policies = request.source_policies
    if "BUILDKIT_INLINE_CACHE" in request.frontend.build_args:
        from knarr.export.cacheoptions import with_inline

        job.cache_to = with_inline(request.cache_to, request.frontend.build_args)
    with _Timed(timings, "compile"):
        frontend = _compile(job, _with_scanner(request))
        if job.governs:
            frontend = job.governor.answer(frontend)
    try:
        with _Timed(timings, "solve"):
            graphs = [result.graph for result in frontend.results]
            records = job.solve(graphs, name=request.name, exports=request.exports)
    except NotFound as error:
        from knarr.engine import blame

        raise blame.with_empty_names(error, frontend.empty_names) from error.__cause__
    with _Timed(timings, "export"):
        metadata = job.export(request.exports, frontend, records, _attestations(job, request, frontend, records))
        if request.tell_provenance:
            from knarr.engine.provenance import told_in_metadata

            about = told_in_metadata(_solved(job, request, frontend, records), whole=request.tell_provenance == "max")
            metadata = {**metadata, **about}
    return _result(metadata, timings)


def _attestations(
    job: Job, request: SolveRequest, frontend: FrontendResult, records: Sequence[RecordId | None]
) -> Sequence[Sequence[Attestation]]:
    """What is attested of each platform; empty when there is nothing."""
    if not request.attest and not any(found.attestations for found in frontend.results):
        return ()
    from knarr.engine.attesting import attestations

    return attestations(_solved(job, request, frontend, records), request.attest)


def _solved(job: Job, request: SolveRequest, frontend: FrontendResult, records: Sequence[RecordId | None]) -> Solved:
    from knarr.attest.provenance import DOCKERFILE, Request
    from knarr.engine.attesting import Solved
    from knarr.frontend.options import to_options

    asked = Request(DOCKERFILE, {**to_options(request.frontend), **request.hints})
    return Solved(job, frontend, records, asked)


def _with_scanner(request: SolveRequest) -> FrontendRequest:
    """What the frontend is asked, with who makes the SBOM: the frontend knows what belongs to it."""
    if SBOM not in request.attest:
        return request.frontend
    from knarr.frontend.scanner import scanner_of

    return replace(request.frontend, scanner=scanner_of(request.attest[SBOM]))


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
    from knarr.frontend.dockerfile.syntax import wanted

    other = wanted(request)
    if other is not None:
        from knarr.engine.othersyntax import compile_with

        return compile_with(other, job, request)
    world = job.world
    govern = job.governor.source if job.governs else None
    bridge = EngineBridge(job.images, world.session, world.sink, world, govern=govern)
    job.looked_for = bridge.looked_for
    with told(request, world.sink) as warnings:
        result = compile_dockerfile(request, bridge, warnings=warnings)
    job.asked_time = bridge.asked_time
    return result


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
