"""Outputs that a client decides upon when the result is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.buildkit.gateway import SERVICE
from knarr.buildkit.service import Caller
from knarr.errors import KnarrError
from knarr.pb import gateway_pb2
from knarr.pb import sessionexporter_pb2 as pb
from tests.buildkit.client import Client

from .conftest import Builder, Dockerfile, Running
from .test_control import exporter, member

pytestmark = [pytest.mark.root, pytest.mark.system]

_SERVICE = "/moby.exporter.v1.Exporter/"


class Deciding:
    """A client that adds `outputs` after it has looked into the result, and fails in the end if it is told to."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.outputs = [pb.ExporterRequest(Type="tar")]
        self.seen: list[str] = []
        self.told: dict[str, str] = {}
        self.refuses = False

    def find(self, request: pb.FindExportersRequest) -> pb.FindExportersResponse:
        (ref,) = request.refs
        metadata = [("buildkit-controlapi-buildid", f"{self.builder.client.id}-1")]
        gateway = Caller(self.builder.channel, SERVICE, metadata=metadata)
        self.seen = [entry.path for entry in gateway.unary("ReadDir", gateway_pb2.ReadDirRequest(Ref=ref)).entries]
        return pb.FindExportersResponse(exporters=self.outputs)

    def finalize(self, request: pb.FinalizeExportRequest) -> pb.FinalizeExportResponse:
        self.told = dict(request.exporter_response)
        if self.refuses:
            raise RuntimeError("that will not do")
        return pb.FinalizeExportResponse()


@pytest.fixture
def deciding(daemon: Running, context: Path, tmp_path: Path, dockerfile: Dockerfile) -> Iterator[Deciding]:
    dockerfile("FROM scratch\nCOPY hello /deep/\nCOPY hello /\n")
    lent = {"context": context, "dockerfile": context}
    with daemon.channel() as channel:
        client = Client(channel, tmp_path, id=os.urandom(8).hex(), directories=lent)
        found = Deciding(Builder(daemon, client, channel))
        client.answers[f"{_SERVICE}FindExporters"] = (pb.FindExportersRequest, found.find)
        client.answers[f"{_SERVICE}FinalizeExport"] = (pb.FinalizeExportRequest, found.finalize)
        with client:
            yield found


def test_a_client_looks_into_the_result_and_adds_an_output(deciding: Deciding) -> None:
    deciding.builder.build(EnableSessionExporter=True, Exporters=[exporter("oci")])
    assert sorted(deciding.seen) == ["deep", "hello"]
    assert member(deciding.builder.client.files["1"], "deep/hello") == b"hello\n"
    assert member(deciding.builder.client.files["0"], "index.json")
    assert deciding.told["containerimage.digest"].startswith("sha256:")


def test_a_build_fails_when_its_client_does_not_accept_it(deciding: Deciding) -> None:
    deciding.refuses = True
    with pytest.raises(KnarrError, match="that will not do"):
        deciding.builder.build(EnableSessionExporter=True)
    deciding.builder.build()


def test_a_client_without_an_opinion_gets_what_it_asked_for(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM scratch\nCOPY hello /deep/\n")
    builder.build(EnableSessionExporter=True, Exporters=[exporter("tar")])
    assert member(builder.client.files["0"], "deep/hello") == b"hello\n"


def test_an_output_that_is_not_known_is_refused_by_name(deciding: Deciding) -> None:
    deciding.outputs = [pb.ExporterRequest(Type="floppy")]
    with pytest.raises(KnarrError, match="output type 'floppy' is not known"):
        deciding.builder.build(EnableSessionExporter=True)
