"""Which sources a build may use, and which take their place: the request's rules first, then the caller's own verdict.

The caller is asked about each source once in a build, for all who want it: the
frontend that pins an image and the graph that has it. Sources of one graph are
judged at the same time, since a verdict may wait for another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from knarr.errors import KnarrError, UsageError
from knarr.record import replace
from knarr.scope import Flights

if TYPE_CHECKING:
    from knarr.frontend.gateway import SourceState
    from knarr.frontend.request import FrontendResult, PlatformResult
    from knarr.frontend.sourcequestion import Judge, SourceQuestion
    from knarr.llb.ops import Graph, SourceOp, Vertex
    from knarr.llb.sourcepolicy import SourcePolicy
    from knarr.scope import Scope
    from knarr.spec.platform import Platform

    Look = Callable[[SourceOp, SourceQuestion], SourceState]
    Case = tuple[str, tuple[tuple[str, str], ...], Platform]

_QUESTIONS = 10  # about one source: BuildKit's limit
_AT_A_TIME = 64


class Governor:
    """See the module. Safe from several threads. `look` finds out what a judge wants to know of a source."""

    def __init__(self, scope: Scope, look: Look) -> None:
        self._scope = scope
        self._look = look
        self.policies: tuple[SourcePolicy, ...] = ()  # of the request
        self.judge: Judge | None = None
        self._verdicts: dict[Case, SourceOp] = {}
        self._lock = threading.Lock()
        self._flights = Flights()

    @property
    def governs(self) -> bool:
        """Whether anything is decided at all."""
        return bool(self.policies) or self.judge is not None

    def source(self, op: SourceOp, platform: Platform | None = None, more: tuple[SourcePolicy, ...] = ()) -> SourceOp:
        """What is to be fetched where `op` is asked for; `more` are policies of whoever asks.

        Raises:
            SourceDenied: nothing is.
        """
        policies = (*self.policies, *more)
        if policies:
            from knarr.llb.sourcepolicy import evaluate

            op = evaluate(policies, op)
        if self.judge is None:
            return op
        from knarr.spec.platform import host_platform

        return self._judged(self.judge, op, platform or host_platform(), policies)

    def _judged(self, judge: Judge, op: SourceOp, platform: Platform, policies: tuple[SourcePolicy, ...]) -> SourceOp:
        case = _case(op, platform)

        def ask() -> SourceOp:
            with self._lock:
                known = self._verdicts.get(case)
            if known is not None:
                return known
            found = self._ask(judge, op, platform, policies)
            with self._lock:
                self._verdicts[case] = self._verdicts[_case(found, platform)] = found
            return found

        return self._flights.once(case, ask)

    def _ask(self, judge: Judge, op: SourceOp, platform: Platform, policies: tuple[SourcePolicy, ...]) -> SourceOp:
        from knarr.frontend.sourcequestion import Answered, MoreWanted, Refused, TooManyQuestions
        from knarr.llb.sourcepolicy import evaluate, normalised

        shown = normalised(op)
        known: Answered | None = None
        for _ in range(_QUESTIONS):
            self._scope.check()
            said = judge.judge(shown, platform, known)
            if isinstance(said, MoreWanted):
                _check_same(shown, said.source)
                known = Answered(said.question, self._look(shown, said.question))
            elif said.instead is not None:
                op = evaluate(policies, said.instead)
                shown, known = normalised(op), None
            elif said.allowed:
                return op
            else:
                raise Refused(shown, said.reasons)
        raise TooManyQuestions(
            f"too many policy requests about {shown.identifier}", hint=f"a policy decides within {_QUESTIONS} questions"
        )

    def graph(self, graph: Graph, more: tuple[SourcePolicy, ...] = ()) -> Graph:
        """`graph` with the sources that the policies want.

        Raises:
            SourceDenied: they want one of them not at all.
        """
        if not (self.governs or more):
            return graph
        from knarr.engine.gateway import with_excerpt
        from knarr.image.copy import each
        from knarr.llb.ops import SourceOp
        from knarr.llb.sourcepolicy import rewritten

        def decide(vertex: Vertex) -> SourceOp:
            assert isinstance(vertex.op, SourceOp)
            try:
                return self.source(vertex.op, vertex.platform, more)
            except KnarrError as error:
                raise error.with_context(span=vertex.spans[0] if vertex.spans else None) from None

        sources = [vertex for vertex in graph.vertices.values() if isinstance(vertex.op, SourceOp)]
        try:
            decided = each(decide, sources, scope=self._scope, jobs=_AT_A_TIME if self.judge is not None else 1)
        except KnarrError as error:
            raise with_excerpt(error, graph) from None
        return rewritten(graph, {vertex.digest: op for vertex, op in zip(sources, decided, strict=True)})

    def result(self, found: PlatformResult) -> PlatformResult:
        """One platform's result, with what is said of it and what is to be scanned for its SBOM."""
        said = tuple(
            replace(one, ref=replace(one.ref, graph=self.graph(one.ref.graph))) if one.ref else one
            for one in found.attestations
        )
        scans = tuple((name, self.graph(graph)) for name, graph in found.scans)
        return replace(found, graph=self.graph(found.graph), attestations=said, scans=scans)

    def answer(self, frontend: FrontendResult) -> FrontendResult:
        """What a frontend answered, with the sources that the policies want."""
        if not self.governs:
            return frontend
        return replace(frontend, results=tuple(map(self.result, frontend.results)))


def _case(op: SourceOp, platform: Platform) -> Case:
    return op.identifier, tuple(sorted(op.attrs.items())), platform


def _check_same(shown: SourceOp, asked: SourceOp) -> None:
    """A judge asks about the source that it was shown, and no other."""
    if asked.identifier != shown.identifier:
        raise UsageError(
            f'policy requested different source identifier: "{asked.identifier}" != "{shown.identifier}"'  # BuildKit's
        )
    if dict(asked.attrs) != dict(shown.attrs):
        raise UsageError(f"policy requested different source attrs: {dict(asked.attrs)} != {dict(shown.attrs)}")
