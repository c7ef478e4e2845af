"""What a failed step leaves to a client that runs the frontend itself: a debugger looks into it, in a container."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from knarr.buildkit.failure import SOLVE
from knarr.pb import gateway_pb2 as pb
from knarr.pb import ops_pb2
from knarr.pb.control_pb2 import DiskUsageRequest, PruneRequest
from knarr.pb.status_pb2 import Status

from .conftest import Builder, Dockerfile
from .test_control import bridge_call

pytestmark = [pytest.mark.root, pytest.mark.system]

Ask = Callable[[str, Any], Any]


@contextmanager
def frontend_of(builder: Builder) -> Iterator[Ask]:
    """A build whose frontend is this test; it gives nothing in the end."""
    request = builder.request(Frontend="")
    thread = threading.Thread(target=lambda: builder.control.unary("Solve", request, timeout_s=120))
    thread.start()

    def ask(name: str, message: Any) -> Any:
        return bridge_call(builder.channel, name, message, (("buildkit-controlapi-buildid", request.Ref),))

    try:
        yield ask
    finally:
        ask("Return", pb.ReturnRequest(result=pb.Result()))
        thread.join()


def failure(ask: Ask) -> dict[str, Any]:
    """The detail of a failed solve that tells the op, and the names of what is left of it."""
    with pytest.raises(grpc.RpcError) as caught:
        ask("Solve", pb.SolveRequest(Frontend="dockerfile.v0", Evaluate=True, allowResultReturn=True))
    call: Any = caught.value
    status = Status.FromString(dict(call.trailing_metadata())["grpc-status-details-bin"])
    (found,) = (detail.value for detail in status.details if detail.type_url == SOLVE)
    told: dict[str, Any] = json.loads(found)
    return told


def content(ask: Ask, path: str, *trees: str) -> bytes:
    """A file of a container whose mounts show `trees`: the first one at /, the next at /1."""
    mounts = [ops_pb2.Mount(dest=f"/{n or ''}", resultID=tree) for n, tree in enumerate(trees)]
    ask("NewContainer", pb.NewContainerRequest(ContainerID="c", Mounts=mounts))
    last = len(trees) - 1
    try:
        data: bytes = ask("ReadFileContainer", pb.ReadFileRequest(Ref="c", FilePath=path, MountIndex=last)).Data
        return data
    finally:
        ask("ReleaseContainer", pb.ReleaseContainerRequest(ContainerID="c"))


def test_a_failed_run_leaves_its_root_as_it_was_then(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nRUN echo so far > /note && false\n")
    with frontend_of(builder) as ask:
        told = failure(ask)
        assert told["op"]["exec"]["meta"]["args"][-1] == "echo so far > /note && false"
        assert content(ask, "/note", told["mountIDs"][0]) == b"so far\n"
        with pytest.raises(grpc.RpcError, match="no such file"):
            content(ask, "/note", told["inputIDs"][0])  # what it began with


def test_a_mount_that_the_step_wrote_to_is_left_as_well(
    builder: Builder, dockerfile: Dockerfile, context: Path
) -> None:
    (context / "d").mkdir()
    mount = "--mount=type=bind,source=d,target=/d,rw --mount=type=tmpfs,target=/t"
    dockerfile(f"FROM busybox\nRUN {mount} echo there > /d/note && false\n")
    with frontend_of(builder) as ask:
        told = failure(ask)
        mounts = told["op"]["exec"]["mounts"]
        dests = [mount["dest"] for mount in mounts]
        root, written = told["mountIDs"][dests.index("/")], told["mountIDs"][dests.index("/d")]
        assert told["mountIDs"][dests.index("/t")] == ""
        assert content(ask, "/d/note", root, written) == b"there\n"


def test_a_failed_copy_tells_its_action_and_what_was_there(builder: Builder) -> None:
    from knarr.llb import definition
    from knarr.llb.ops import MkDir, MkFile
    from knarr.llb.state import FileStep, State, graph
    from knarr.spec.platform import host_platform

    steps = [FileStep(MkDir("/a", 0o755)), FileStep(MkFile("/a/f", 0o644, b"x")), FileStep(MkFile("/b/f", 0o644, b"y"))]
    message = pb.SolveRequest(Evaluate=True, allowResultReturn=True)
    message.Definition.ParseFromString(definition.encode(graph(State().file(steps), platform=host_platform())))
    with frontend_of(builder) as ask:
        told = failure(lambda name, _: ask(name, message))
        assert told["file"] == {"index": "2"}
        assert "inputIDs" not in told
        assert content(ask, "/a/f", told["mountIDs"][2]) == b"x"


def test_an_input_without_what_is_mounted_of_it_can_be_looked_into(builder: Builder, dockerfile: Dockerfile) -> None:
    text = "FROM busybox AS made\nRUN echo here > /found\nFROM busybox\n"
    dockerfile(f"{text}RUN --mount=from=made,source=/nowhere,target=/m true\n")
    with frontend_of(builder) as ask:
        told = failure(ask)
        assert "cache" in told
        (tree,) = told["inputIDs"]
        assert content(ask, "/found", tree) == b"here\n"


def test_what_was_left_is_gone_with_the_build(builder: Builder, dockerfile: Dockerfile) -> None:
    dockerfile("FROM busybox\nRUN head -c 3000000 /dev/zero > /large && false\n")
    snapshots = builder.daemon.root / "snapshots"
    list(builder.control.stream("Prune", PruneRequest(all=True)))
    with frontend_of(builder) as ask:
        failure(ask)
        assert list(snapshots.rglob("large"))
    assert not list(snapshots.rglob("large"))
    list(builder.control.stream("Prune", PruneRequest(all=True)))
    assert not builder.control.unary("DiskUsage", DiskUsageRequest()).record


def test_a_definition_of_nothing_is_an_empty_result(builder: Builder) -> None:
    request = builder.request(Frontend="")
    request.Definition.SetInParent()  # as the clients write scratch; one that has a frontend of its own gives none
    builder.control.unary("Solve", request, timeout_s=30)
