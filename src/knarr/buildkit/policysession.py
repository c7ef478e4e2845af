"""A client that judges the sources of its build by itself, over its session: buildx with policies in Rego.

Spec: BuildKit's sourcepolicy/policysession (service PolicyVerifier) at v0.33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from knarr.buildkit import gatewayrecords as records
from knarr.errors import KnarrError
from knarr.frontend.sourcequestion import MoreWanted, Verdict
from knarr.pb import policysession_pb2 as pb
from knarr.pb.sourcepolicy_pb2 import ALLOW, CONVERT

if TYPE_CHECKING:
    from knarr.buildkit.sessions import Sessions
    from knarr.frontend.sourcequestion import Answered
    from knarr.llb.ops import SourceOp
    from knarr.scope import Scope
    from knarr.spec.platform import Platform

VERIFIER = pb.DESCRIPTOR.services_by_name["PolicyVerifier"]
_WAIT_S = 5.0  # a client opens its session and asks for its build at the same time


class ClientJudge:
    """Implements `frontend.sourcequestion.Judge`: the client of session `id`."""

    def __init__(self, sessions: Sessions, id: str, scope: Scope) -> None:
        self._sessions = sessions
        self._id = id
        self._scope = scope

    def judge(self, source: SourceOp, platform: Platform, known: Answered | None) -> Verdict | MoreWanted:
        request = pb.CheckPolicyRequest(Platform=records.to_platform(platform))
        if known is None:
            request.Source.Source.CopyFrom(records.to_source(source))
        else:
            request.Source.CopyFrom(records.source_response(source, known.question, known.state))
        answer = self._ask(request)
        if answer.HasField("request"):
            return MoreWanted(records.source_of(answer.request.Source), records.question_of(answer.request))
        if not answer.HasField("decision"):
            raise KnarrError("no decision in policy response")  # BuildKit's words
        decision = answer.decision
        if decision.action == CONVERT:
            if not decision.HasField("update"):
                raise KnarrError("convert action requires updated source")
            return Verdict(instead=records.source_of(decision.update))
        return Verdict(decision.action == ALLOW, reasons=tuple(one.message for one in decision.denyMessages))

    def _ask(self, request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        """The client's answer. It may ask a person, or wait for what it says of another source: there is no limit."""
        client = self._sessions.get(self._id, wait_s=_WAIT_S)
        if client is None:
            self._scope.check()
            raise KnarrError(f"no active session for {self._id}", hint="the client that judges the sources has left")
        if not client.offers(VERIFIER, "CheckPolicy"):
            raise KnarrError(f"session {self._id} does not judge sources", hint="start the build without its policy")
        answer: pb.CheckPolicyResponse = client.caller(VERIFIER).waited("CheckPolicy", request, scope=self._scope)
        return answer
