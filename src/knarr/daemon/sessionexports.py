"""Outputs that a client decides upon when the result is there, over its session: buildx's bake and its embedders.

Spec: BuildKit's session/exporter (service Exporter) and solver/llbsolver/export.go at v0.33.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import grpc

from knarr.buildkit.gateway import Bridge
from knarr.pb import control_pb2
from knarr.pb import sessionexporter_pb2 as pb
from knarr.pb.control_pb2 import SolveRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.buildkit.lent import RemoteSession
    from knarr.daemon.builds import Build
    from knarr.engine.gateway import EngineGateway
    from knarr.frontend.gateway import Answer
    from knarr.spec.platform import Platform

EXPORTER = pb.DESCRIPTOR.services_by_name["Exporter"]
# A client need not have an opinion: it has no such service, or nobody behind it.
_SILENT = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE)


def with_more(
    request: SolveRequest,
    answer: Answer,
    session: RemoteSession,
    build: Build,
    gateway: EngineGateway,
    platforms: Sequence[Platform],
) -> SolveRequest:
    """`request` with the outputs that its client adds to its own, after a look into the results if it likes.

    Raises:
        KnarrError: the client has left, or fails.
    """
    bridge = Bridge(gateway, {}, tuple(platforms), scope=build.scope)
    with closing(bridge), build.bridged(bridge):
        question = pb.FindExportersRequest(metadata=answer.metadata, refs=map(bridge.name, answer.refs.values()))
        caller = session.client().caller(EXPORTER)
        found = caller.waited("FindExporters", question, scope=build.scope, silent=_SILENT)
    more = SolveRequest()
    more.CopyFrom(request)
    if found is not None:
        more.Exporters.extend(control_pb2.Exporter(Type=one.Type, Attrs=one.Attrs) for one in found.exporters)
    return more


def finish(request: SolveRequest, response: Mapping[str, str], session: RemoteSession, build: Build) -> None:
    """Tell the client what its outputs have come to, while the build may still fail by its word.

    Raises:
        KnarrError: the client does not accept it.
    """
    if request.EnableSessionExporter:
        told = pb.FinalizeExportRequest(exporter_response=response)
        caller = session.client().caller(EXPORTER)
        caller.waited("FinalizeExport", told, scope=build.scope, silent=_SILENT)
