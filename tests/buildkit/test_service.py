"""Services and callers from descriptors, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.service import OPTIONS, Caller, serving
from knarr.errors import Cancelled, Excerpt, KnarrError, Span
from knarr.pb import gateway_pb2 as pb

BRIDGE = pb.DESCRIPTOR.services_by_name["LLBBridge"]


class Answers:
    """Serves a little of the service; what it is asked for says how."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def read_file(self, request: pb.ReadFileRequest, context: grpc.ServicerContext) -> pb.ReadFileResponse:
        if request.FilePath == "broken":
            lines = ("FROM a", "RUN b") + ("# …",) * 20_000
            raise KnarrError("no such thing", hint="look", span=Span("Dockerfile", 2, 2), excerpt=Excerpt(lines))
        if request.FilePath == "cancelled":
            raise Cancelled
        return pb.ReadFileResponse(Data=request.FilePath.encode())

    def exec_process(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        for request in requests:
            if request.ProcessID == "wrong":
                raise KnarrError("the stream is wrong")
            yield pb.ExecMessage(ProcessID=request.ProcessID, Done=pb.DoneMessage())


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    address = f"unix:{tmp_path}/s"
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=OPTIONS)
        server.add_generic_rpc_handlers((serving(BRIDGE, Answers()),))
        server.add_insecure_port(address)
        server.start()
        with grpc.insecure_channel(address, options=OPTIONS) as channel:
            yield Caller(channel, BRIDGE)
        server.stop(0).wait()


def test_a_method_answers_under_buildkits_name(caller: Caller) -> None:
    assert caller.unary("ReadFile", pb.ReadFileRequest(FilePath="a")).Data == b"a"


def test_a_failure_keeps_its_words_its_way_out_and_its_place_across_a_call(caller: Caller) -> None:
    with pytest.raises(KnarrError) as caught:
        caller.unary("ReadFile", pb.ReadFileRequest(FilePath="broken"))
    assert caught.value.message == "no such thing"
    assert caught.value.hint == "look"
    assert caught.value.span == Span("Dockerfile", 2, 2)
    assert "  2 | >>> RUN b" in caught.value.render()


def test_a_cancelled_call_is_no_failure(caller: Caller) -> None:
    with pytest.raises(Cancelled):
        caller.unary("ReadFile", pb.ReadFileRequest(FilePath="cancelled"))


def test_what_is_not_implemented_says_so(caller: Caller) -> None:
    with pytest.raises(KnarrError, match="Method not found"):
        caller.unary("Ping", pb.PingRequest())


def test_a_stream_answers_message_by_message(caller: Caller) -> None:
    answers = caller.stream("ExecProcess", iter([pb.ExecMessage(ProcessID="1"), pb.ExecMessage(ProcessID="2")]))
    assert [answer.ProcessID for answer in answers] == ["1", "2"]


def test_a_stream_that_fails_ends_with_the_failure(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError, match="the stream is wrong"):
        list(caller.stream("ExecProcess", iter([pb.ExecMessage(ProcessID="wrong")])))
