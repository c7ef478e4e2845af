"""The life of one `Control.Solve`: a client's request becomes a job of the engine, what comes of it the response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from knarr.attest.provenance import COMPATIBILITY, Request
from knarr.attest.wanted import wanted
from knarr.builder import CacheEntry
from knarr.buildkit.gateway import Bridge
from knarr.buildkit.lent import RemoteSession
from knarr.buildkit.policies import policy
from knarr.buildkit.policysession import ClientJudge
from knarr.daemon import outputs
from knarr.daemon.sessionexports import finish, with_more
from knarr.engine.attesting import Solved, attestations
from knarr.engine.frontends import ask
from knarr.engine.gateway import with_excerpt
from knarr.engine.provenance import told_in_history
from knarr.engine.recovery import forget_shared
from knarr.errors import KnarrError, SharedLayerLost, UsageError
from knarr.export.cacheoptions import cache_target, check_source, with_inline
from knarr.frontend.answer import from_answer
from knarr.frontend.gateway import ONLY, Answer
from knarr.ops import entitlements
from knarr.ops.entitlements import Allowed
from knarr.progress import Warned
from knarr.record import replace
from knarr.scope import TICK_S

if TYPE_CHECKING:
    from knarr.attest.statement import Attestation
    from knarr.builder import Export
    from knarr.buildkit.sessions import Sessions
    from knarr.config import Containerd
    from knarr.daemon.builds import Build
    from knarr.daemon.worker import Worker
    from knarr.engine.engine import Engine
    from knarr.engine.gateway import EngineGateway
    from knarr.engine.job import Job
    from knarr.pb.control_pb2 import SolveRequest
    from knarr.session.kept import Kept


class Solver:
    """Solves what clients ask for, each with what its own session lends."""

    def __init__(
        self,
        engine: Engine,
        sessions: Sessions,
        kept: Kept,
        worker: Worker,
        granted: Iterable[str],
        environment: Mapping[str, Any],
        *,
        containerd: Containerd | None = None,
    ) -> None:
        """`granted` are the entitlements that a request may ask for; `environment` is added to all provenance.

        Images that are kept go to `containerd`, too.
        """
        self._containerd = containerd
        self._environment = environment
        self._engine = engine
        self._sessions = sessions
        self._kept = kept
        self._worker = worker
        self._entitlements = frozenset(granted)

    def solve(self, request: SolveRequest, build: Build) -> dict[str, str]:
        """Build, export, and tell what the exporters have to tell.

        Raises:
            KnarrError: it failed.
            Cancelled: the build's scope was cancelled.
        """
        caches = _caches(request)
        try:
            return self._once(request, build, *caches)
        except SharedLayerLost as error:
            if not request.Frontend:
                raise  # the client has what its frontend was told, and cannot begin again
            build.log.send(Warned("shared cache", f"{error.message}; the build begins again without it"))
            return self._once(request, build, (), caches[1], anew=True)

    def _once(
        self,
        request: SolveRequest,
        build: Build,
        cache_from: tuple[CacheEntry, ...],
        cache_to: tuple[CacheEntry, ...],
        *,
        anew: bool = False,
    ) -> dict[str, str]:
        """One attempt; `anew` forgets first what was taken from shared caches."""
        attests = wanted(request.FrontendAttrs)
        allowed = self._allowed(request)
        with (
            RemoteSession(self._sessions, request.Session, self._kept, build.scope, _lenders(request)) as session,
            self._engine.open(session, build.log, scope=build.scope) as job,
        ):
            if anew:
                forget_shared(job.parts.cache)
            job.options = replace(job.options, allowed=allowed, trace=build.trace)
            job.cache_from, job.cache_to = cache_from, cache_to
            if request.HasField("SourcePolicy"):
                job.governor.policies = (policy(request.SourcePolicy),)
            if request.SourcePolicySession:
                job.governor.judge = ClientJudge(self._sessions, request.SourcePolicySession, build.scope)
            given = self._answer(job, request, build)
            exports, answer = self._exports(request, given)
            frontend = job.governor.answer(from_answer(answer))
            doubt = outputs.mismatch(request, answer, [result.platform for result in frontend.results])
            if doubt is not None:
                build.log.send(doubt)
            graphs = [result.graph for result in frontend.results]
            try:
                records = job.solve(graphs, name=request.Ref)
            except KnarrError as error:
                for graph in graphs:
                    with_excerpt(error, graph)
                raise
            if request.EnableSessionExporter:
                more = with_more(request, given, session, build, job.gateway, self._worker.platforms)
                exports, answer = self._exports(more, given)
                frontend = job.governor.answer(from_answer(answer))
            said: Sequence[Sequence[Attestation]] = ()
            made = Solved(
                job,
                frontend,
                records,
                Request(request.Frontend, dict(request.FrontendAttrs), job.gateway.told(_inputs(request))),
                self._environment,
                compatibility=request.CompatibilityVersion or COMPATIBILITY,
            )
            if attests or any(found.attestations for found in frontend.results):
                said = attestations(made, attests)
            told = job.export(exports, frontend, records, said)
            build.images.update(job.made)
            with suppress(KnarrError):  # the history's own note: a graph that it cannot tell is no failure of the build
                build.provenance.update(told_in_history(made, attests.get("provenance", {}).get("builder-id", "")))
            response = outputs.response(told, answer)
            finish(request, response, session, build)
            return response

    def _exports(self, request: SolveRequest, answer: Answer) -> tuple[list[Export], Answer]:
        """The outputs, and the answer with what the request says of the result."""
        exports, said = outputs.wanted(request, answer)
        return outputs.with_own_containerd(exports, self._containerd), said

    def _allowed(self, request: SolveRequest) -> Allowed:
        """What the request asks leave for, as far as the daemon gives it."""
        for name in request.Entitlements:
            if name.partition("=")[0] not in self._entitlements:
                raise KnarrError(
                    f"entitlement {name} is not allowed",
                    hint=f"start the daemon with --allow-insecure-entitlement {name}",
                )
        return entitlements.parse(request.Entitlements)

    def _answer(self, job: Job, request: SolveRequest, build: Build) -> Answer:
        inputs = _inputs(request)
        # A definition of nothing is an empty result; a client that runs the frontend itself gives no definition at all.
        if request.HasField("Definition") and (not request.Frontend or getattr(request.Definition, "def")):
            return Answer({ONLY: job.gateway.solve(request.Definition.SerializeToString())})
        if request.Frontend:
            return ask(job.gateway, request.Frontend, dict(request.FrontendAttrs), inputs, scope=job.world.scope)
        return self._clients_answer(job.gateway, inputs, build)

    def _clients_answer(self, gateway: EngineGateway, inputs: Mapping[str, bytes], build: Build) -> Answer:
        """The client runs the frontend itself: wait for what it returns."""
        bridge = Bridge(gateway, inputs, self._worker.platforms, scope=build.scope, worker=self._worker.id)
        with closing(bridge), build.bridged(bridge), build.scope.on_cancel(bridge.returned.set):
            while not bridge.returned.wait(TICK_S):
                pass
        build.scope.check()
        answer = bridge.answer
        if answer is None:
            raise UsageError("the client's frontend has given no answer")
        return answer


def _inputs(request: SolveRequest) -> dict[str, bytes]:
    """The graphs that the client lends to the frontend, by name."""
    return {name: given.SerializeToString() for name, given in request.FrontendInputs.items()}


def _lenders(request: SolveRequest) -> dict[str, str]:
    """The sessions that lend directories which the request's own does not, by the names of those."""
    prefix = "local-sessionid:"
    attrs = request.FrontendAttrs
    return {name.removeprefix(prefix): id for name, id in attrs.items() if name.startswith(prefix)}


def _caches(request: SolveRequest) -> tuple[tuple[CacheEntry, ...], tuple[CacheEntry, ...]]:
    """The shared caches to read and to write.

    Raises:
        UsageError: one of them cannot be meant.
    """
    sources = tuple(CacheEntry(entry.Type, dict(entry.Attrs)) for entry in request.Cache.Imports)
    targets = tuple(CacheEntry(entry.Type, dict(entry.Attrs)) for entry in request.Cache.Exports)
    for entry in sources:
        check_source(entry)
    for entry in targets:
        cache_target(entry)
    words = {key.removeprefix("build-arg:"): value for key, value in request.FrontendAttrs.items()}
    return sources, with_inline(targets, words)
