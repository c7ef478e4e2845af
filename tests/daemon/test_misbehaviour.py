"""Clients that vanish, stall or talk nonsense, and a daemon that is killed: the next client finds all in order."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import KnarrError
from knarr.pb import control_pb2 as pb
from knarr.pb import ops_pb2
from tests.buildkit.client import Client

from .conftest import Builder, Dockerfile, Running, running
from .test_control import exporter, wait_for_step

pytestmark = [pytest.mark.root, pytest.mark.system]

_PATIENCE_S = 60.0
_CROWD = 12


def eventually(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def held(daemon: Running) -> dict[str, int]:
    """What the daemon's process and its state directory hold at the moment."""
    process = Path(f"/proc/{daemon.process.pid}")
    mounts = (process / "mounts").read_text().splitlines()
    return {
        "threads": len(os.listdir(process / "task")),
        "files": len(os.listdir(process / "fd")),
        "children": len((process / "task" / str(daemon.process.pid) / "children").read_text().split()),
        "mounts": sum(str(daemon.root) in line for line in mounts),
        "bundles": sum(len(names) for _, names, _ in os.walk(daemon.root / "run/bundles")),
    }


def is_at_rest(daemon: Running, before: dict[str, int]) -> bool:
    now = held(daemon)
    return all(now[what] <= before[what] for what in before)


def test_a_crowd_that_vanishes_in_the_middle_leaves_nothing(
    daemon: Running, builder: Builder, dockerfile: Dockerfile, context: Path, tmp_path: Path
) -> None:
    dockerfile("FROM busybox\nRUN echo warm\n")
    builder.build()
    dockerfile("FROM busybox\nARG N\nRUN echo $N; sleep 544\n")
    vanish(daemon, context, tmp_path, "a", "sleep 544")  # whatever is made once is made now
    time.sleep(1)
    before = held(daemon)
    vanish(daemon, context, tmp_path, "b", "sleep 544")
    eventually(lambda: is_at_rest(daemon, before), f"{before} is left again: {held(daemon)}")
    dockerfile("FROM busybox\nRUN echo goes on\n")
    assert builder.build(Exporters=[exporter("oci")])


def vanish(daemon: Running, context: Path, tmp_path: Path, name: str, step: str) -> None:
    """A crowd of clients begins `step`; then all connections are cut, without a word."""
    with daemon.channel() as channel:
        clients, calls = [], []
        for number in range(_CROWD):
            lent = {"context": context, "dockerfile": context}
            client = Client(channel, tmp_path, id=f"{name}{number}", directories=lent, shared_key=str(number))
            clients.append(client)
            client.__enter__()
            one = Builder(daemon, client, channel)
            request = one.request(FrontendAttrs={"build-arg:N": f"{name}{number}"})
            calls.append(channel.unary_unary("/moby.buildkit.v1.Control/Solve").future(request.SerializeToString()))
            wait_for_step(one, request.Ref, step)
    for client in clients:
        client.__exit__()


def op(**fields: Any) -> bytes:
    return ops_pb2.Op(**fields).SerializeToString()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


SOURCE = op(source=ops_pb2.SourceOp(identifier="docker-image://docker.io/library/busybox:latest"))
GOPHER = op(source=ops_pb2.SourceOp(identifier="gopher://hole"))
MISSING = digest(b"nowhere")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([op(), op(inputs=[{"digest": digest(op()), "index": 0}])], "not known|no op|unknown|empty"),
        ([SOURCE, op(inputs=[{"digest": MISSING, "index": 0}])], MISSING),
        ([SOURCE, op(inputs=[{"digest": digest(SOURCE), "index": 7}])], "7"),
        ([SOURCE], "must end with"),
        ([GOPHER, op(inputs=[{"digest": digest(GOPHER), "index": 0}])], "gopher"),
        ([b"\x0a\xff"], "definition|decode|LLB"),
    ],
    ids=["an empty op", "an input that is nowhere", "an output that is not there", "no end", "a scheme", "no message"],
)
def test_a_definition_that_makes_no_sense_is_refused(builder: Builder, made: list[bytes], message: str) -> None:
    with pytest.raises(KnarrError, match=message):
        builder.build(Frontend="", Definition={"def": made})
    builder.build()


def test_an_op_that_names_itself_among_its_inputs_is_refused(builder: Builder) -> None:
    # A digest cannot be that of an op which has it among its inputs: whoever says so names an op that is not there.
    looped = op(file=ops_pb2.FileOp(), inputs=[{"digest": MISSING, "index": 0}])
    end = op(inputs=[{"digest": digest(looped), "index": 0}])
    with pytest.raises(KnarrError, match=MISSING):
        builder.build(Frontend="", Definition={"def": [looped, end]})


def test_a_message_that_is_too_long_is_refused_and_the_connection_goes_on(builder: Builder) -> None:
    with pytest.raises(KnarrError, match="larger than max"):
        builder.build(FrontendAttrs={"build-arg:A": "x" * (17 << 20)})
    builder.build()


def test_a_stream_that_is_no_session_hurts_nobody(daemon: Running, builder: Builder) -> None:
    def noise() -> Iterator[bytes]:
        for _ in range(50):
            yield pb.BytesMessage(data=os.urandom(4096)).SerializeToString()

    headers = (("x-docker-expose-session-uuid", "noise"), ("x-docker-expose-session-name", "noise"))
    with daemon.channel() as channel:
        call = channel.stream_stream("/moby.buildkit.v1.Control/Session")(noise(), metadata=headers, timeout=20)
        assert not b"".join(call).startswith(b"HTTP/1")  # what comes, if anything, is a connection that gives up
    builder.build()


def test_a_client_that_sends_nothing_of_its_context_can_be_cancelled(
    daemon: Running, context: Path, tmp_path: Path
) -> None:
    class Silent(Client):
        def packets(self, root: Path, requests: Any) -> Iterator[Any]:
            list(requests)  # until the far end hangs up
            yield from ()

    with (
        daemon.channel() as channel,
        Silent(channel, tmp_path, id="silent", directories={"dockerfile": context}) as client,
    ):
        request = Builder(daemon, client, channel).request()
        call = channel.unary_unary("/moby.buildkit.v1.Control/Solve").future(request.SerializeToString())
        eventually(lambda: client.asked, "it is asked for its Dockerfile")
        call.cancel()
        fresh = Builder(daemon, client, channel)
        eventually(lambda: not fresh.is_running(request.Ref), "the build has ended")


@pytest.mark.parametrize("moment", ["during a step", "while a context comes", "while it exports"])
def test_a_daemon_that_was_killed_begins_again_with_all_it_had(
    bases: Any, context: Path, tmp_path: Path, moment: str
) -> None:
    root = tmp_path / "root"
    environ = {"KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    lent = {"context": context, "dockerfile": context}
    with running(root, environ=environ) as daemon:
        with daemon.channel() as channel, Client(channel, tmp_path, id="one", directories=lent) as client:
            first = Builder(daemon, client, channel)
            before = first.build(Exporters=[exporter("image", name="kept:1")])
            begun = first.request()
            (context / "Dockerfile").write_text(
                {
                    "during a step": "FROM busybox\nRUN sleep 545\n",
                    "while a context comes": "FROM busybox\nCOPY . /all\n",
                    "while it exports": "FROM busybox\nRUN head -c 300000000 /dev/urandom > /large\n",
                }[moment]
            )
            if moment == "while a context comes":
                for number in range(3000):
                    (context / f"file{number}").write_bytes(os.urandom(2000))
            begun.Exporters.append(exporter("image", name="lost:1"))
            thread = threading.Thread(target=_fails, args=(first, begun))
            thread.start()
            word = {"during a step": "sleep 545", "while a context comes": "load build context"}
            wait_for_step(first, begun.Ref, word.get(moment, "exporting to image"))
            daemon.process.send_signal(signal.SIGKILL)
            thread.join()
        daemon.process.wait()
    daemon.log.unlink()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY hello /\nRUN cat hello hello > /twice\n")
    for path in context.glob("file*"):
        path.unlink()
    with (
        running(root, environ=environ) as daemon,
        daemon.channel() as channel,
        Client(channel, tmp_path, id="two", directories=lent) as client,
    ):
        again = Builder(daemon, client, channel)
        request = again.request(Exporters=[exporter("image", name="kept:1")])
        after = again.control.unary("Solve", request, timeout_s=120).ExporterResponse
        assert after["containerimage.digest"] == before["containerimage.digest"]
        assert sum(vertex.cached for vertex in again.said(request.Ref).vertexes) > 0
        asked = pb.BuildHistoryRequest(EarlyExit=True)
        known = {event.record.Ref for event in again.control.stream("ListenBuildHistory", asked)}
        assert {"one-1", request.Ref} <= known
    done = subprocess.run(
        [sys.executable, "-m", "knarr", "doctor", "--store"],
        env={**os.environ, "KNARR_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WRONG" not in done.stdout
    assert str(root) not in Path("/proc/self/mounts").read_text()


def _fails(builder: Builder, request: pb.SolveRequest) -> None:
    with pytest.raises(KnarrError):
        builder.control.unary("Solve", request, timeout_s=120)
