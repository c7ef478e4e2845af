"""Builds by the protocol: what a client asks, what it gets back, and what becomes of the daemon when it does wrong."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from knarr.buildkit.failure import SOURCE, STACK, VERTEX, Told
from knarr.buildkit.gateway import SERVICE
from knarr.buildkit.service import Caller
from knarr.errors import KnarrError
from knarr.pb import control_pb2 as pb
from knarr.pb import gateway_pb2, ops_pb2
from tests.buildkit.client import Client
from tests.ops.servers import Page, file_server

from .conftest import Builder, Dockerfile, Running

pytestmark = [pytest.mark.root, pytest.mark.system]


def exporter(kind: str, **attrs: str) -> pb.Exporter:
    return pb.Exporter(Type=kind, Attrs=attrs)


def test_it_says_who_it_is_and_that_it_is_well(builder: Builder) -> None:
    info = builder.control.unary("Info", pb.InfoRequest()).buildkitVersion
    assert info.package == "knarr"
    assert info.version.startswith("v0.")
    (worker,) = builder.control.unary("ListWorkers", pb.ListWorkersRequest()).record
    assert worker.ID
    assert "linux" in {platform.OS for platform in worker.platforms}
    healthy = health_pb2_grpc.HealthStub(builder.channel).Check(health_pb2.HealthCheckRequest())
    assert healthy.status == health_pb2.HealthCheckResponse.SERVING


def test_a_build_gives_its_client_an_archive_and_the_digests(builder: Builder) -> None:
    response = builder.build(Exporters=[exporter("oci", name="app:1")])
    index = json.loads(member(builder.client.files["0"], "index.json"))
    assert index["manifests"][0]["digest"] == response["containerimage.digest"]
    described = json.loads(base64.b64decode(response["containerimage.descriptor"]))
    assert described["digest"] == response["containerimage.digest"]
    assert response["containerimage.config.digest"].startswith("sha256:")


def member(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = tar.extractfile(name)
        assert found is not None
        return found.read()


def test_a_build_gives_its_client_the_files(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM scratch\nCOPY hello /deep/\n")
    builder.build(Exporters=[exporter("tar"), *[exporter("cacheonly")] * 8, exporter("local")])
    assert member(builder.client.files["0"], "deep/hello") == b"hello\n"
    assert builder.client.trees["9"]["deep/hello"][1] == b"hello\n"


def test_what_is_told_of_a_build_is_told_to_who_asks_late_as_well(builder: Builder) -> None:
    request = builder.request()
    builder.control.unary("Solve", request, timeout_s=120)
    said = builder.said(request.Ref)
    names = {vertex.name for vertex in said.vertexes if vertex.HasField("completed")}
    assert "[internal] load build definition from Dockerfile" in names
    assert "[2/3] COPY hello /" in names
    assert all(vertex.digest.startswith("sha256:") for vertex in said.vertexes)


def test_a_step_that_fails_comes_with_its_line_and_its_output(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\n\nRUN echo so far && exit 7\n")
    request = builder.request()
    with pytest.raises(KnarrError, match="did not complete successfully: exit code: 7") as caught:
        builder.control.unary("Solve", request, timeout_s=120)
    assert str(caught.value.span) == "Dockerfile:3"
    assert ">>> RUN echo so far" in caught.value.render()
    said = builder.said(request.Ref)
    assert b"".join(line.msg for line in said.logs) == b"so far\n"
    assert ["exit code: 7" in vertex.error for vertex in said.vertexes if vertex.error] == [True]


def test_a_failure_says_which_step_of_the_graph_it_was_and_where_in_the_daemon(
    builder: Builder, dockerfile: Dockerfile
) -> None:
    dockerfile("FROM scratch\nCOPY nothing /\n")
    with pytest.raises(Told) as caught:
        builder.build()
    told = {detail.type_url: json.loads(detail.value) for detail in caught.value.status.details}
    assert told[VERTEX]["digest"].startswith("sha256:")
    assert told[SOURCE]["ranges"][0]["start"]["line"] == 2
    assert told[STACK]["frames"][0]["File"].startswith("knarr/")


def test_secrets_come_from_the_client_and_stay_out_of_what_is_told(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nRUN --mount=type=secret,id=key test $(rev /run/secrets/key) = t3rc3s\n")
    builder.client.secrets["key"] = b"s3cr3t"
    request = builder.request()
    builder.control.unary("Solve", request, timeout_s=120)
    assert b"s3cr3t" not in builder.said(request.Ref).SerializeToString()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"Frontend": "cobol.v0"}, "there is no frontend 'cobol.v0'"),
        ({"Frontend": "", "Definition": {"def": [b"\xff\xff"]}}, "not an LLB definition"),
        ({"Frontend": "", "Definition": {"def": [b"\x0a\x02\x0a\x00"]}}, "digest"),
        ({"Session": "nobody"}, "no active session for nobody"),
        ({"Ref": ""}, "needs a reference"),
        ({"Exporters": [{"Type": "oci", "Attrs": {"tar": "false", "dest": "/etc"}}]}, "the client lends no content"),
        ({"Exporters": [{"Type": "floppy"}]}, "output type 'floppy' is not known"),
        ({"FrontendAttrs": {"shm-size": "large"}}, "shm-size"),
        ({"FrontendAttrs": {"filename": "Nofile"}}, "Nofile"),
        ({"Cache": {"Exports": [{"Type": "carrier-pigeon"}]}}, "carrier-pigeon"),
        ({"Entitlements": ["security.insecure"]}, "security.insecure is not allowed"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_by_name(
    builder: Builder, more: dict[str, object], message: str
) -> None:
    with pytest.raises(KnarrError, match=message):
        builder.build(**more)
    builder.build()  # and the daemon goes on


def test_a_reference_is_for_one_build_at_a_time(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nRUN --network=none sleep 2\n")
    request = builder.request(FrontendAttrs={"no-cache": ""})
    thread = threading.Thread(target=lambda: builder.control.unary("Solve", request, timeout_s=120))
    thread.start()
    wait_for_step(builder, request.Ref, "sleep 2")
    with pytest.raises(KnarrError, match="already exists"):
        builder.control.unary("Solve", request, timeout_s=10)
    thread.join()


def wait_for_step(builder: Builder, ref: str, text: str) -> None:
    """Return when a step whose name has `text` has begun."""
    call = builder.control.stream("Status", pb.StatusRequest(Ref=ref))
    for answer in call:
        if any(text in vertex.name and vertex.HasField("started") for vertex in answer.vertexes):
            call.cancel()
            return
    raise AssertionError(f"no step {text}")


def test_a_client_that_vanishes_cancels_its_build(
    daemon: Running, builder: Builder, dockerfile: Dockerfile, context: Path, tmp_path: Path
) -> None:
    dockerfile("FROM busybox\nRUN sleep 543\n")
    with daemon.channel() as channel:
        request = builder.request()
        client = Client(channel, tmp_path, id="vanishing", directories={"context": context, "dockerfile": context})
        request.Session = "vanishing"
        with client:
            stub = channel.unary_unary(
                "/moby.buildkit.v1.Control/Solve",
                request_serializer=pb.SolveRequest.SerializeToString,
                response_deserializer=pb.SolveResponse.FromString,
            )
            call = stub.future(request)
            wait_for_step(builder, request.Ref, "sleep 543")
            deadline = time.monotonic() + 60
            while not sleeping():  # else it is cancelled before there is a container
                assert time.monotonic() < deadline
                time.sleep(0.02)
            call.cancel()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (sleeping() or list((daemon.root / "run/bundles").glob("*/*"))):
        time.sleep(0.1)
    assert not sleeping()
    assert not list((daemon.root / "run/bundles").glob("*/*"))


def sleeping() -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\x00543\x00":
                return True
        except OSError:
            continue
    return False


def test_a_client_may_run_the_frontend_itself(builder: Builder) -> None:
    request = builder.request(Frontend="", Exporters=[exporter("oci")])
    answers: list[object] = []
    thread = threading.Thread(
        target=lambda: answers.append(builder.control.unary("Solve", request, timeout_s=120).ExporterResponse)
    )
    thread.start()
    headers = (("buildkit-controlapi-buildid", request.Ref),)

    def ask(name: str, message: Any) -> Any:
        return bridge_call(builder.channel, name, message, headers)

    assert ask("Ping", gateway_pb2.PingRequest()).LLBCaps
    solved = ask("Solve", gateway_pb2.SolveRequest(Frontend="dockerfile.v0", allowResultReturn=True))
    ask("Return", gateway_pb2.ReturnRequest(result=solved.result))
    thread.join()
    assert answers
    assert builder.client.files["0"]


def bridge_call(channel: grpc.Channel, name: str, message: Any, headers: tuple[tuple[str, str], ...]) -> Any:
    method = gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"].methods_by_name[name]
    stub = channel.unary_unary(
        f"/moby.buildkit.v1.frontend.LLBBridge/{name}",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=getattr(gateway_pb2, method.output_type.name).FromString,
    )
    return stub(message, metadata=headers, timeout=60)


def test_a_call_of_the_gateway_without_a_build_is_refused(builder: Builder) -> None:
    gateway = Caller(builder.channel, gateway_pb2.DESCRIPTOR.services_by_name["LLBBridge"])
    with pytest.raises(KnarrError, match="buildkit-controlapi-buildid"):
        gateway.unary("Ping", gateway_pb2.PingRequest(), timeout_s=10)


def test_progress_of_a_build_that_is_not_known_is_refused(builder: Builder) -> None:
    with pytest.raises(grpc.RpcError, match="no such job nothing"):
        list(builder.control.stream("Status", pb.StatusRequest(Ref="nothing")))


def test_the_cache_is_listed_and_pruned(builder: Builder) -> None:
    builder.build()
    found = builder.control.unary("DiskUsage", pb.DiskUsageRequest()).record
    assert {"regular", "source.local"} <= {record.RecordType for record in found}
    only = builder.control.unary("DiskUsage", pb.DiskUsageRequest(filter=["type==source.local"])).record
    assert {record.RecordType for record in only} == {"source.local"}
    gone = list(builder.control.stream("Prune", pb.PruneRequest(all=True)))
    assert {record.ID for record in found} <= {record.ID for record in gone}
    assert not builder.control.unary("DiskUsage", pb.DiskUsageRequest()).record
    with pytest.raises(KnarrError, match="unknown field"):
        builder.control.unary("DiskUsage", pb.DiskUsageRequest(filter=["colour==red"]))


def test_a_file_that_the_frontend_was_told_of_outlasts_a_prune(builder: Builder, dockerfile: Dockerfile) -> None:
    with file_server() as server:
        server.pages["/f"] = Page(b"one", etag='"1"')
        dockerfile(f"FROM scratch\nADD {server.url('/f')} /\n")
        ref = f"{builder.client.id}-1"
        gateway = Caller(builder.channel, SERVICE, metadata=[("buildkit-controlapi-buildid", ref)])
        request = builder.request(Frontend="", Exporters=[exporter("tar")])
        solve = threading.Thread(target=lambda: builder.control.unary("Solve", request, timeout_s=120))
        solve.start()
        source = ops_pb2.SourceOp(identifier=server.url("/f"))
        told = gateway.unary("ResolveSourceMeta", gateway_pb2.ResolveSourceMetaRequest(Source=source))
        assert told.HTTP.Checksum == "sha256:" + hashlib.sha256(b"one").hexdigest()
        list(builder.control.stream("Prune", pb.PruneRequest(all=True)))
        server.pages["/f"] = Page(b"two", etag='"1"')
        answer = gateway.unary("Solve", gateway_pb2.SolveRequest(Frontend="dockerfile.v0", allowResultReturn=True))
        result = gateway_pb2.Result(refDeprecated=answer.result.refDeprecated)
        gateway.unary("Return", gateway_pb2.ReturnRequest(result=result))
        solve.join()
    assert member(builder.client.files["0"], "f") == b"one"
