"""The builder's Dockerfile frontend, driven through its gateway: asked to compile, and its answer returned.

Spec: BuildKit's client/build.go and frontend/gateway/grpcclient at v0.33.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc

from knarr.buildkit.failure import failure_of, status_of
from knarr.buildkit.gateway import SERVICE
from knarr.buildkit.service import Caller
from knarr.client.asked import OWN_STORE
from knarr.errors import Cancelled, KnarrError, Unsupported
from knarr.frontend.options import joined, to_options
from knarr.pb import gateway_pb2 as pb
from knarr.scope import TICK_S, Scope

if TYPE_CHECKING:
    from knarr.builder import SolveRequest
    from knarr.client.connection import Builder
    from knarr.pb.control_pb2 import CacheOptions

_BUILD = "buildkit-controlapi-buildid"
_CONTEXTS = "moby.buildkit.frontend.contexts+forward"
_SUBREQUESTS = "moby.buildkit.frontend.subrequests"
# What every build needs, by the names under which it is announced.
_BASE = {"solve.base": "builds", "return": "builds whose frontend is asked through the gateway (BuildKit v0.4)"}


def options(request: SolveRequest, caches: CacheOptions, question: str) -> dict[str, str]:
    """The frontend's options."""
    found = to_options(request.frontend)
    if found.get("context") and request.frontend.dockerfile:
        found["dockerfilekey"] = "dockerfile"  # lent by us, and not a file of the remote context
    if any(name.startswith("context:") for name in found):
        found["frontend.caps"] = _CONTEXTS
    if question:
        found["requestid"] = question
        found["frontend.caps"] = _SUBREQUESTS
        return found
    loads = any(export.type == OWN_STORE for export in request.exports)
    for kind, about in request.attest.items():
        # What is pushed and loaded is one image: not one with attestations, and one without.
        given = {key: value for key, value in about.items() if not (loads and key == "inline-only")}
        found[f"attest:{kind}"] = joined(f"{key}={value}" for key, value in given.items())
    if caches.Imports:
        imports = [{"Type": entry.Type, "Attrs": dict(entry.Attrs)} for entry in caches.Imports]
        found["cache-imports"] = json.dumps(imports)
    return found


def drive(
    builder: Builder, ref: str, given: Mapping[str, str], needed: Mapping[str, str], solving: Any, scope: Scope
) -> Mapping[str, bytes]:
    """Have the frontend's answer made and returned to the build `ref`; gives what the answer says of itself.

    `solving` is the call that solves the build, as long as which the gateway is
    there. `needed` are capabilities, and for what.

    Raises:
        Unsupported: the builder lacks one of them.
        KnarrError: the frontend failed. The build was told, and fails as well.
        grpc.RpcError: the call that solves failed first.
    """
    gateway = _Gateway(Caller(builder.channel, SERVICE), ref, solving, scope)
    try:
        check_capabilities(builder, gateway.call("Ping", pb.PingRequest()), needed)
        request = pb.SolveRequest(
            Frontend="dockerfile.v0", FrontendOpt=given, allowResultReturn=True, allowResultArrayRef=True
        )
        answer = gateway.call("Solve", request)
    except KnarrError as error:
        gateway.give_up(error)
        raise
    result = answer.result if answer.HasField("result") else pb.Result(refDeprecated=answer.ref)
    gateway.call("Return", pb.ReturnRequest(result=result))
    return dict(result.metadata)


class _Gateway:
    """Calls for one build, which end when that does."""

    def __init__(self, caller: Caller, ref: str, solving: Any, scope: Scope) -> None:
        self._caller = caller
        self._headers = [(_BUILD, ref)]
        self._solving = solving
        self._scope = scope

    def call(self, name: str, message: Any) -> Any:
        """The answer to one call.

        Raises:
            KnarrError: it failed.
            grpc.RpcError: the build has ended before.
        """
        call = self._caller.begin(name, message, metadata=self._headers)
        with self._scope.on_cancel(call.cancel):
            while True:
                try:
                    return call.result(timeout=TICK_S)
                except grpc.FutureTimeoutError:
                    if self._solving.done():
                        call.cancel()
                        self._solving.result()  # raises why
                        raise KnarrError("the builder ended the build before it was told what to build") from None
                except grpc.FutureCancelledError:
                    raise Cancelled from None
                except grpc.RpcError as error:
                    if self._solving.done():
                        self._solving.result()
                    told: Any = error
                    if told.code() is grpc.StatusCode.UNAVAILABLE:
                        raise
                    raise failure_of(error) from None

    def give_up(self, error: KnarrError) -> None:
        """Tell the build that there is no answer; it fails with this."""
        call = self._caller.begin("Return", pb.ReturnRequest(error=status_of(error)), metadata=self._headers)
        with self._scope.on_cancel(call.cancel):
            try:
                call.result()
            except (grpc.RpcError, grpc.FutureCancelledError):
                self._solving.cancel()  # it has not heard, and would wait for ever


def check_capabilities(builder: Builder, pong: Any, needed: Mapping[str, str]) -> None:
    """See that the builder can do what is `needed`: capabilities, and for what.

    Raises:
        Unsupported: it lacks one.
    """
    can = {cap.ID for cap in (*pong.FrontendAPICaps, *pong.LLBCaps) if cap.Enabled}
    for cap, use in {**_BASE, **needed}.items():
        if cap not in can:
            raise Unsupported(
                f"builder {builder.shown} cannot do {use}: it lacks the capability {cap}",
                hint="update it, or use another builder",
            )
