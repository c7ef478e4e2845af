"""LLBBridge over a real job: what a client may do wrong, and what becomes of its calls when it goes away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.failure import Told
from knarr.buildkit.gateway import SERVICE, Bridge
from knarr.buildkit.service import OPTIONS, Caller, serving
from knarr.config import Settings
from knarr.engine.engine import Engine
from knarr.errors import KnarrError
from knarr.frontend.gateway import ONLY
from knarr.llb import definition
from knarr.llb.ops import MkFile
from knarr.llb.state import FileStep, State, graph, source
from knarr.pb import gateway_pb2 as pb
from knarr.pb import ops_pb2
from knarr.progress import Recorder, Warned
from knarr.scope import Scope
from knarr.session.dockerconfig import DockerConfig
from knarr.session.local import LocalSession
from knarr.spec.platform import Platform, host_platform

pytestmark = pytest.mark.root  # a job makes mounts of its own


class Served:
    """A bridge, and a client of it."""

    def __init__(self, bridge: Bridge, channel: grpc.Channel, sink: Recorder) -> None:
        self.bridge = bridge
        self.channel = channel
        self.sink = sink
        self.call = Caller(channel, SERVICE).unary

    def solve(self, state: State, **options: Any) -> pb.Ref:
        message = pb.SolveRequest(allowResultReturn=True, allowResultArrayRef=True, **options)
        message.Definition.ParseFromString(definition.encode(graph(state, platform=host_platform())))
        ref: pb.Ref = self.call("Solve", message).result.ref
        return ref

    def process(self, *messages: pb.ExecMessage) -> list[Any]:
        return list(Caller(self.channel, SERVICE).stream("ExecProcess", iter(messages)))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    context = tmp_path / "context"
    context.mkdir()
    (context / "f").write_text("content")
    (context / "Dockerfile").write_text("FROM scratch\n")
    session = LocalSession({"context": context, "dockerfile": context}, {}, DockerConfig({}))
    settings = Settings.from_environment({"KNARR_ROOT": str(tmp_path / "state")})
    address, sink = f"unix:{tmp_path}/s", Recorder()
    with Engine(settings).open(session, sink) as job, Scope() as scope, ThreadPoolExecutor(16) as pool:
        bridge = Bridge(job.gateway, {"in": b""}, (Platform("linux", "amd64"),), scope=scope)
        server = grpc.server(pool, handlers=(serving(SERVICE, bridge),), options=OPTIONS)
        server.add_insecure_port(address)
        server.start()
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            yield Served(bridge, channel, sink)
        server.stop(0).wait()
        bridge.close()


def made(text: bytes = b"x") -> State:
    return State().file([FileStep(MkFile("/f", 0o644, text))])


def test_a_result_is_solved_when_it_is_looked_at_and_given_back(served: Served) -> None:
    ref = served.solve(made())
    assert getattr(ref, "def").ByteSize() > 0
    assert served.call("ReadFile", pb.ReadFileRequest(Ref=ref.id, FilePath="f")).Data == b"x"
    request = pb.ReturnRequest()
    request.result.ref.id = ref.id
    request.result.metadata["k"] = b"v"
    served.call("Return", request)
    answer = served.bridge.answer
    assert answer is not None
    assert answer.metadata == {"k": b"v"}
    assert answer.refs[ONLY].graph.root is not None


def test_workers_capabilities_and_inputs_are_told(served: Served) -> None:
    pong = served.call("Ping", pb.PingRequest())
    assert pong.Workers[0].platforms[0].Architecture == "amd64"
    assert {"solve.base", "return"} <= {cap.ID for cap in pong.FrontendAPICaps if cap.Enabled}
    assert {"source.local", "exec.meta.base"} <= {cap.ID for cap in pong.LLBCaps if cap.Enabled}
    assert list(served.call("Inputs", pb.InputsRequest()).Definitions) == ["in"]


def test_a_client_from_before_results_is_given_a_name(served: Served) -> None:
    message = pb.SolveRequest(Final=True, ExporterAttr=b'{"k": "dg=="}')
    message.Definition.ParseFromString(definition.encode(graph(made(), platform=host_platform())))
    response = served.call("Solve", message)
    assert response.ref == response.result.refDeprecated != ""
    assert served.bridge.answer is not None
    assert served.bridge.answer.metadata == {"k": b"v"}


def test_an_answer_is_given_once(served: Served) -> None:
    served.call("Return", pb.ReturnRequest(result=pb.Result()))
    with pytest.raises(KnarrError, match="has given its answer already"):
        served.call("Return", pb.ReturnRequest(result=pb.Result()))


def test_a_failure_of_the_frontend_is_its_answer(served: Served) -> None:
    request = pb.ReturnRequest()
    request.error.code, request.error.message = 2, "it is wrong"
    served.call("Return", request)
    with pytest.raises(KnarrError, match="it is wrong"):
        _ = served.bridge.answer


def test_a_warning_reaches_the_one_who_builds(served: Served) -> None:
    request = pb.WarnRequest(digest="sha256:x", short=b"odd", detail=[b"why"], url="u", ranges=[ops_pb2.Range()])
    request.ranges[0].start.line = 3
    served.call("Warn", request)
    warned = [event for event in served.sink.events if isinstance(event, Warned)]
    assert [(event.message, event.detail, event.line) for event in warned] == [("odd", "why", 3)]


WRONG: list[tuple[str, Any, str]] = [
    ("ReadFile", pb.ReadFileRequest(Ref="nosuch", FilePath="f"), "no such ref: nosuch"),
    ("StatFile", pb.StatFileRequest(Path="f"), "an empty result has no files"),
    ("Evaluate", pb.EvaluateRequest(Ref="nosuch"), "no such ref"),
    ("Return", pb.ReturnRequest(result=pb.Result(ref=pb.Ref(id="nosuch"))), "no such ref"),
    ("Solve", pb.SolveRequest(Frontend="nosuch.v0"), "there is no frontend 'nosuch.v0'"),
    ("Solve", pb.SolveRequest(Definition=ops_pb2.Definition(**{"def": [b"\xff"]})), "not an LLB definition"),
    ("Solve", pb.SolveRequest(Definition=ops_pb2.Definition(**{"def": [b""]})), "must end with a bare pointer"),
    ("Solve", pb.SolveRequest(Frontend="gateway.v0"), "gateway.v0 runs an image, and none is named"),
    ("ResolveImageConfig", pb.ResolveImageConfigRequest(Ref="UPPER/case"), "UPPER"),
    ("ResolveImageConfig", pb.ResolveImageConfigRequest(Ref="a", ResolveMode="odd"), "cannot be resolved by 'odd'"),
    ("ResolveSourceMeta", pb.ResolveSourceMetaRequest(), "not the identifier of a source"),
    ("NewContainer", pb.NewContainerRequest(ContainerID="c"), "a container needs a mount at /"),
    ("NewContainer", pb.NewContainerRequest(), "a container needs an id"),
    ("ReleaseContainer", pb.ReleaseContainerRequest(ContainerID="c"), "previously released or not created"),
    ("ReadFileContainer", pb.ReadFileRequest(Ref="c", FilePath="f"), "previously released or not created"),
]


@pytest.mark.parametrize(
    ("method", "message", "told"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_call_that_makes_no_sense_is_told_so(served: Served, method: str, message: Any, told: str) -> None:
    with pytest.raises(KnarrError, match=told):
        served.call(method, message)
    assert served.call("Ping", pb.PingRequest()).Workers, "and the next one is answered"


def test_a_question_that_the_frontend_does_not_know_is_told_by_its_name(served: Served) -> None:
    with pytest.raises(Told) as caught:
        served.call("Solve", pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"requestid": "odd"}))
    details = {detail.type_url.rpartition("/")[2]: detail.value for detail in caught.value.status.details}
    assert details["errdefs.Subrequest+json"] == b'{"name": "odd"}'


def test_a_capability_that_the_frontend_lacks_is_told_by_its_name(served: Served) -> None:
    options = {"frontend.caps": "moby.buildkit.frontend.inputs,moby.buildkit.frontend.odd+forward"}
    with pytest.raises(Told, match=r"unsupported frontend capability moby\.buildkit\.frontend\.odd") as caught:
        served.call("Solve", pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt=options))
    assert caught.value.status.details[0].type_url.endswith("/errdefs.FrontendCap+json")


def test_the_questions_that_may_be_asked_are_listed(served: Served) -> None:
    options = {"requestid": "frontend.subrequests.describe"}
    request = pb.SolveRequest(Frontend="dockerfile.v0", FrontendOpt=options, allowResultReturn=True)
    metadata = served.call("Solve", request).result.metadata
    assert json.loads(metadata["result.json"])[0]["name"] == "frontend.outline"
    assert metadata["result.txt"].startswith(b"NAME                 VERSION DESCRIPTION\noutline ")


def test_a_range_that_goes_backwards_is_refused(served: Served) -> None:
    ref = served.solve(made())
    request = pb.ReadFileRequest(Ref=ref.id, FilePath="f", Range=pb.FileRange(Offset=-1))
    with pytest.raises(KnarrError, match="cannot be negative"):
        served.call("ReadFile", request)


def test_a_solve_that_fails_fails_alone(served: Served) -> None:
    with pytest.raises(KnarrError, match="nosuchname"):
        served.solve(source("local://nosuchname", {}), Evaluate=True)
    assert served.solve(made(), Evaluate=True).id


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (pb.ExecMessage(), "names no process"),
        (pb.ExecMessage(ProcessID="1", Signal=pb.SignalMessage(Name="INT")), "was not started on this stream"),
        (pb.ExecMessage(ProcessID="1", Init=pb.InitMessage(ContainerID="c")), "previously released or not created"),
    ],
)
def test_a_stream_that_makes_no_sense_ends_with_the_reason(served: Served, message: Any, told: str) -> None:
    with pytest.raises(grpc.RpcError, match=told):
        served.process(message)


def test_a_call_that_the_client_gives_up_ends_here_as_well(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def slow(ref: object, *, scope: Scope) -> None:
        begun.set()
        try:
            scope.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(served.bridge._gateway, "evaluate", slow)
    ref = served.solve(made())
    call: Callable[..., Any] = served.channel.unary_unary(
        f"/{SERVICE.full_name}/Evaluate", request_serializer=pb.EvaluateRequest.SerializeToString
    )
    future = call.future(pb.EvaluateRequest(Ref=ref.id))  # type: ignore[attr-defined]  # grpc's own
    assert begun.wait(10)
    future.cancel()
    deadline = time.monotonic() + 10
    while not ended.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended.is_set()
