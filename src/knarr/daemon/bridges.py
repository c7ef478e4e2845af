"""The gateway for clients that run the frontend on their side: a call finds its build by a header.

Spec: BuildKit's control/gateway/gateway.go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from knarr.buildkit.failure import Told
from knarr.buildkit.gateway import Bridge
from knarr.errors import KnarrError
from knarr.pb.status_pb2 import Status

if TYPE_CHECKING:
    import grpc

    from knarr.daemon.builds import Builds

_BUILD = "buildkit-controlapi-buildid"
_NOT_FOUND = 5  # of google.rpc.Code
_WAIT_S = 3.0  # a client asks for its build and calls the gateway at the same time


class Bridges:
    """Every method of `Bridge`, of the one that belongs to the call's build."""

    def __init__(self, builds: Builds) -> None:
        self._builds = builds

    def __getattr__(self, name: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        if name.startswith("_") or not hasattr(Bridge, name):
            raise AttributeError(name)

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            return getattr(self._of(context), name)(request, context)

        return call

    def _of(self, context: grpc.ServicerContext) -> Bridge:
        headers = dict(context.invocation_metadata())
        ref = str(headers.get(_BUILD, ""))
        if not ref:
            raise KnarrError(f"no buildid found in context: a call of the gateway needs the header {_BUILD}")
        build = self._builds.get(ref, wait_s=_WAIT_S)
        bridge = build.bridge(wait_s=_WAIT_S) if build is not None else None
        if bridge is None:
            raise Told(f"no such job {ref}", status=Status(code=_NOT_FOUND))
        return bridge
