"""Clients that judge the sources of their builds by themselves, over their session."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.buildkit.failure import Told
from knarr.errors import KnarrError
from knarr.pb import control_pb2, gateway_pb2, ops_pb2
from knarr.pb import policysession_pb2 as pb
from knarr.pb.sourcepolicy_pb2 import ALLOW, CONVERT, DENY
from tests.buildkit.client import Client
from tests.ops.servers import FileServer, Page, file_server

from .conftest import Builder, Dockerfile, Running

pytestmark = [pytest.mark.root, pytest.mark.system]

_CALL = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
Says = Callable[[pb.CheckPolicyRequest], pb.CheckPolicyResponse]
ALLOWED = pb.CheckPolicyResponse(decision=pb.DecisionResponse(action=ALLOW))


class Judging:
    """A client whose builds are judged by `says`; `asked` are the sources that it was asked about."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.says: Says = lambda request: ALLOWED
        self.asked: list[pb.CheckPolicyRequest] = []

    def answer(self, request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        self.asked.append(request)
        return self.says(request)

    def build(self) -> None:
        self.builder.build(SourcePolicySession=self.builder.client.id, FrontendAttrs={"no-cache": ""})

    def names(self) -> list[str]:
        return [request.Source.Source.identifier for request in self.asked]


@pytest.fixture
def judging(daemon: Running, context: Path, tmp_path: Path) -> Iterator[Judging]:
    lent = {"context": context, "dockerfile": context}
    with daemon.channel() as channel:
        client = Client(channel, tmp_path, id=os.urandom(8).hex(), directories=lent)
        found = Judging(Builder(daemon, client, channel))
        client.answers[_CALL] = (pb.CheckPolicyRequest, found.answer)
        with client:
            yield found


@pytest.fixture
def files() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


def test_each_source_of_a_dockerfile_is_shown_with_its_platform(judging: Judging, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nCOPY hello /\n")
    judging.build()
    assert "docker-image://docker.io/library/busybox:latest" in judging.names()
    assert any(name.startswith("docker-image://docker.io/library/busybox:latest@sha256:") for name in judging.names())
    assert "local://context" in judging.names()
    assert {request.Platform.OS for request in judging.asked} == {"linux"}


def test_a_refusal_comes_with_its_reasons(judging: Judging, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\n")
    reasons = [pb.DenyMessage(message="not this one"), pb.DenyMessage(message="take alpine")]
    refusal = pb.DecisionResponse(action=DENY, denyMessages=reasons)
    judging.says = lambda request: pb.CheckPolicyResponse(decision=refusal)
    with pytest.raises(Told, match="not allowed by policy: action DENY") as caught:
        judging.build()
    (told,) = [
        one for one in caught.value.status.details if one.type_url.endswith("policysession.DecisionResponse+json")
    ]
    assert told.value == b'{"action": 1, "denyMessages": [{"message": "not this one"}, {"message": "take alpine"}]}'


def test_another_source_takes_the_place_of_one(judging: Judging, dockerfile: Dockerfile, files: FileServer) -> None:
    files.pages["/right"] = Page(b"right\n")
    dockerfile(f"FROM busybox\nADD {files.url('/wrong')} /wrong\nRUN test $(cat /wrong) = right\n")

    def says(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        source = request.Source.Source
        if not source.identifier.endswith("/wrong"):
            return ALLOWED
        instead = ops_pb2.SourceOp(identifier=files.url("/right"), attrs={**source.attrs, "http.filename": "wrong"})
        return pb.CheckPolicyResponse(decision=pb.DecisionResponse(action=CONVERT, update=instead))

    judging.says = says
    judging.build()
    assert files.url("/right") in judging.names()


def test_what_a_signature_is_about_is_told_before_the_verdict(
    judging: Judging, dockerfile: Dockerfile, files: FileServer
) -> None:
    files.pages["/file"] = Page(b"content")
    dockerfile(f"FROM scratch\nADD {files.url('/file')} /\n")
    told: list[str] = []

    def says(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        if not request.Source.Source.identifier.startswith("http"):
            return ALLOWED
        if request.Source.HasField("HTTP"):
            told.append(request.Source.HTTP.ChecksumResponse.Digest)
            return ALLOWED
        wanted = gateway_pb2.ChecksumRequest(Algo="CHECKSUM_ALGO_SHA512", Suffix=b"\x01\x02")
        http = gateway_pb2.ResolveSourceHTTPRequest(ChecksumRequest=wanted)
        return pb.CheckPolicyResponse(
            request=gateway_pb2.ResolveSourceMetaRequest(Source=request.Source.Source, HTTP=http)
        )

    judging.says = says
    judging.build()
    assert told == ["sha512:" + hashlib.sha512(b"content\x01\x02").hexdigest()]


def test_a_judge_that_fails_lets_nothing_pass(judging: Judging, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\n")

    def says(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        raise RuntimeError("the policy is broken")

    judging.says = says
    with pytest.raises(KnarrError, match="the policy is broken"):
        judging.build()
    judging.says = lambda request: pb.CheckPolicyResponse()
    with pytest.raises(KnarrError, match="no decision in policy response"):
        judging.build()


def test_a_session_that_judges_nothing_is_told_so(builder: Builder) -> None:
    with pytest.raises(KnarrError, match="does not judge sources"):
        builder.build(SourcePolicySession=builder.client.id)
    with pytest.raises(KnarrError, match="no active session for nobody"):
        builder.build(SourcePolicySession="nobody")


def test_what_attests_an_image_is_shown_before_the_verdict(
    judging: Judging, dockerfile: Dockerfile, bases: Any
) -> None:
    name = f"{bases.address}/team/attested:1"
    dockerfile("FROM scratch\nCOPY hello /\n")
    image = control_pb2.Exporter(Type="image", Attrs={"name": name, "push": "true"})
    pushed = judging.builder.build(FrontendAttrs={"attest:provenance": "mode=min"}, Exporters=[image])
    dockerfile(f"FROM {name}\n")
    chains: list[gateway_pb2.AttestationChain] = []

    def says(request: pb.CheckPolicyRequest) -> pb.CheckPolicyResponse:
        source = request.Source
        if not source.Source.identifier.endswith(name):
            return ALLOWED
        if source.HasField("Image"):
            chains.append(source.Image.AttestationChain)
            return ALLOWED
        about = gateway_pb2.ResolveSourceImageRequest(
            NoConfig=True, ResolveAttestations=["https://slsa.dev/provenance/v1"]
        )
        return pb.CheckPolicyResponse(
            request=gateway_pb2.ResolveSourceMetaRequest(Source=source.Source, Platform=request.Platform, Image=about)
        )

    judging.says = says
    judging.build()
    (chain,) = chains
    assert chain.Root == pushed["containerimage.digest"]
    statements = [json.loads(blob.data) for blob in chain.Blobs.values() if "in-toto" in blob.descriptor.media_type]
    (statement,) = [found for found in statements if "predicate" in found]
    assert f"sha256:{statement['subject'][0]['digest']['sha256']}" == chain.ImageManifest
