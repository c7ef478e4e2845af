"""A frontend for the tests: runs in a container, speaks LLBBridge over its standard input and output.

The word behind the image in `# syntax=IMAGE WORD` says what it does. `good` makes
an image of a kind of its own: each line `file PATH TEXT` of the definition becomes
a file on top of `from IMAGE`; `run COMMAND` runs one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import grpc

from knarr.buildkit.service import OPTIONS, Caller
from knarr.llb import definition
from knarr.llb.ops import MkFile
from knarr.llb.state import FileStep, Process, State, graph, source
from knarr.pb import gateway_pb2 as pb
from knarr.pb import ops_pb2
from knarr.spec.platform import host_platform

BRIDGE = pb.DESCRIPTOR.services_by_name["LLBBridge"]


def channel_over_stdio() -> grpc.Channel:
    """grpcio connects to sockets: this one leads to our own standard input and output."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("/frontend.sock")
    listener.listen(1)

    def lead() -> None:
        near, _ = listener.accept()
        threading.Thread(target=pump, args=(lambda: os.read(0, 65536), near.sendall), daemon=True).start()
        pump(lambda: near.recv(65536), lambda data: os.write(1, data))

    threading.Thread(target=lead, daemon=True).start()
    return grpc.insecure_channel("unix:/frontend.sock", options=OPTIONS)


def pump(read: Callable[[], bytes], write: Callable[[bytes], object]) -> None:
    while data := read():
        write(data)


class Frontend:
    def __init__(self) -> None:
        pairs = [value.partition("=") for key, value in os.environ.items() if key.startswith("BUILDKIT_FRONTEND_OPT_")]
        self.options = {name: value for name, _, value in pairs}
        self.call = Caller(channel_over_stdio(), BRIDGE)

    def solve(self, state: State, *, evaluate: bool = False) -> pb.Ref:
        message = pb.SolveRequest(allowResultReturn=True, allowResultArrayRef=True, Evaluate=evaluate)
        message.Definition.ParseFromString(definition.encode(graph(state, platform=host_platform())))
        answer: pb.SolveResponse = self.call.unary("Solve", message)
        return answer.result.ref

    def read(self, ref: pb.Ref, path: str) -> bytes:
        data: bytes = self.call.unary("ReadFile", pb.ReadFileRequest(Ref=ref.id, FilePath=path)).Data
        return data

    def lent(self, name: str) -> pb.Ref:
        return self.solve(source(f"local://{name}", {}))

    def give(self, ref: pb.Ref, config: bytes | None = None, **metadata: bytes) -> None:
        request = pb.ReturnRequest()
        request.result.ref.id = ref.id
        if config is not None:
            request.result.metadata["containerimage.config"] = config
        request.result.metadata.update(metadata)
        self.call.unary("Return", request)


def good(frontend: Frontend) -> None:
    text = frontend.read(frontend.lent("dockerfile"), frontend.options["filename"]).decode()
    state, env = State(), ["MADE_BY=a frontend"]
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "from":
            asked = pb.ResolveImageConfigRequest(Ref=rest)
            found = frontend.call.unary("ResolveImageConfig", asked)
            env += json.loads(found.Config)["config"].get("Env") or []
            state = source(f"docker-image://{found.Ref}@{found.Digest}", {}, platform=host_platform())
        elif word == "file":
            path, _, content = rest.partition(" ")
            state = state.file([FileStep(MkFile(path, 0o644, content.encode()))])
        elif word == "run":
            state = state.run(Process(("/bin/sh", "-c", rest)))
    pong = frontend.call.unary("Ping", pb.PingRequest())
    architecture = pong.Workers[0].platforms[0].Architecture
    frontend.give(
        frontend.solve(state),
        json.dumps({"os": "linux", "architecture": architecture, "config": {"Env": env, "Cmd": ["sh"]}}).encode(),
    )


def made(frontend: Frontend) -> None:
    """Runs a step, looks at what it made, and gives that back as a file."""
    base = source("docker-image://docker.io/library/busybox:latest", {}, platform=host_platform())
    step = frontend.solve(base.run(Process(("/bin/sh", "-c", "cat /proc/sys/kernel/random/uuid > /t"))), evaluate=True)
    seen = frontend.read(step, "/t")
    frontend.give(frontend.solve(State().file([FileStep(MkFile("/seen", 0o644, seen))])))


def looks(frontend: Frontend) -> None:
    """What it sees of the context and of an image goes into the result, as text."""
    seen: dict[str, Any] = {}
    context = frontend.lent("context")
    listing = frontend.call.unary("ReadDir", pb.ReadDirRequest(Ref=context.id, DirPath="."))
    seen["context"] = [entry.path for entry in listing.entries]
    listing = frontend.call.unary("ReadDir", pb.ReadDirRequest(Ref=context.id, DirPath="/", IncludePattern="*.txt"))
    seen["texts"] = [entry.path for entry in listing.entries]
    base = frontend.solve(source("docker-image://docker.io/library/busybox:latest", {}, platform=host_platform()))
    stat = frontend.call.unary("StatFile", pb.StatFileRequest(Ref=base.id, Path="/bin/busybox")).stat
    seen["busybox"] = [stat.path, stat.mode, stat.size > 100_000]
    part = pb.ReadFileRequest(Ref=base.id, FilePath="/bin/busybox", Range=pb.FileRange(Offset=1, Length=3))
    seen["magic"] = frontend.call.unary("ReadFile", part).Data.decode()
    seen["outside"] = []
    for ref, path in (
        (context, "../../../../etc/debian_version"),
        (context, "/link"),
        (base, "/../../etc/debian_version"),
    ):
        try:
            seen["outside"].append(frontend.read(ref, path).decode(errors="replace"))
        except Exception as error:
            seen["outside"].append(str(error))
    try:
        frontend.solve(
            source("docker-image://docker.io/library/busybox:latest", {}).run(Process(("false",))), evaluate=True
        )
    except Exception as error:
        seen["failed"] = str(error)
    frontend.give(frontend.solve(State().file([FileStep(MkFile("/seen", 0o644, json.dumps(seen).encode()))])))


class Processes:
    """Processes in containers, on one stream."""

    def __init__(self, frontend: Frontend) -> None:
        self._asked: SimpleQueue[pb.ExecMessage | None] = SimpleQueue()
        self._answers = frontend.call.stream("ExecProcess", iter(self._asked.get, None))
        self.seen: dict[str, dict[str, Any]] = {}

    def start(self, id: str, container: str, *args: str, fds: tuple[int, ...] = (0, 1, 2), **rest: Any) -> None:
        meta = ops_pb2.Meta(args=args, env=["PATH=/bin"], cwd="/")
        self.say(id, Init=pb.InitMessage(ContainerID=container, Meta=meta, Fds=fds, **rest))
        self.seen[id] = {"1": "", "2": "", "order": []}
        self.until(id, "Started")

    def say(self, id: str, **kind: Any) -> None:
        self._asked.put(pb.ExecMessage(ProcessID=id, **kind))

    def type(self, id: str, text: str, *, end: bool = False) -> None:
        self.say(id, File=pb.FdMessage(Fd=0, Data=text.encode(), EOF=end))

    def until(self, id: str, wanted: str, text: str = "") -> None:
        """Take answers until `id` has said `wanted`, with `text` in its output so far."""
        for answer in self._answers:
            kind, seen = answer.WhichOneof("Input"), self.seen[answer.ProcessID]
            if kind == "File" and answer.File.Data:
                seen[str(answer.File.Fd)] += answer.File.Data.decode()
            elif kind == "Exit":
                seen["exit"] = [answer.Exit.Code, answer.Exit.Error.message]
            if kind != "File" or answer.File.EOF:
                seen["order"].append(kind)
            if answer.ProcessID == id and kind == wanted and text in seen["1"]:
                return
        raise AssertionError(f"the stream ended before {id} said {wanted}")

    def end(self) -> None:
        self._asked.put(None)
        assert list(self._answers) == []


def execs(frontend: Frontend) -> None:
    """Runs processes in a container over a result, and tells what they did."""
    base = frontend.solve(source("docker-image://docker.io/library/busybox:latest", {}, platform=host_platform()))
    mounts = [
        ops_pb2.Mount(dest="/", resultID=base.id, input=-1),
        ops_pb2.Mount(dest="/lent", resultID=frontend.lent("context").id, input=-1, readonly=True),
        ops_pb2.Mount(dest="/tmp", mountType=ops_pb2.MountType.TMPFS, input=-1),
    ]
    made = pb.NewContainerRequest(ContainerID="c", Mounts=mounts, hostname="inside", Network=ops_pb2.NetMode.NONE)
    frontend.call.unary("NewContainer", made)
    processes = Processes(frontend)
    processes.start("main", "c", "/bin/sh", "-c", "hostname; cat > /written; cat /written /lent/a.txt; sleep 1000")
    processes.type("main", "typed ")
    processes.type("main", "text\n", end=True)
    processes.until("main", "File", "a.txt")
    processes.start(
        "second", "c", "/bin/sh", "-c", "cat /written; pidof sleep | wc -w; echo err >&2; exit 3", fds=(1, 2)
    )
    processes.until("second", "Done")
    processes.start("terminal", "c", "/bin/sh", Tty=True, fds=(0, 1))
    processes.say("terminal", Resize=pb.ResizeMessage(Rows=33, Cols=99))
    time.sleep(0.5)  # until the shell has its terminal: the size comes by a signal
    processes.say("terminal", Resize=pb.ResizeMessage(Rows=34, Cols=98))
    processes.type("terminal", "stty size; test -t 0 && echo a terminal; echo $TERM; exit 4\n")
    processes.until("terminal", "Done")
    written = frontend.call.unary("ReadFileContainer", pb.ReadFileRequest(Ref="c", FilePath="/written")).Data
    entries = frontend.call.unary("ReadDirContainer", pb.ReadDirRequest(Ref="c", DirPath="/", MountIndex=1)).entries
    mode = frontend.call.unary("StatFileContainer", pb.StatFileRequest(Ref="c", Path="/written")).stat.mode
    processes.say("main", Signal=pb.SignalMessage(Name="KILL"))
    processes.until("main", "Done")
    failed = ""
    try:
        processes.start("late", "c", "/bin/true")
        processes.until("late", "Done")
        failed = processes.seen["late"]["exit"][1]
    except Exception as error:
        failed = str(error)
    frontend.call.unary("ReleaseContainer", pb.ReleaseContainerRequest(ContainerID="c"))
    seen = {
        **processes.seen,
        "written": written.decode(),
        "entries": [entry.path for entry in entries],
        "mode": mode,
        "late": failed,
        "base": "written" in [e.path for e in frontend.call.unary("ReadDir", pb.ReadDirRequest(Ref=base.id)).entries],
    }
    frontend.give(frontend.solve(State().file([FileStep(MkFile("/seen", 0o644, json.dumps(seen).encode()))])))


def leaves_a_container(frontend: Frontend) -> None:
    """Answers while a process of its own still runs."""
    base = frontend.solve(source("docker-image://docker.io/library/busybox:latest", {}, platform=host_platform()))
    mounts = [ops_pb2.Mount(dest="/", resultID=base.id, input=-1)]
    frontend.call.unary("NewContainer", pb.NewContainerRequest(ContainerID="c", Mounts=mounts))
    processes = Processes(frontend)
    processes.start("main", "c", "/bin/sleep", "1000")
    frontend.give(frontend.solve(State().file([FileStep(MkFile("/f", 0o644, b""))])))
    os._exit(0)


def several(frontend: Frontend) -> None:
    """Results by platform, but for one of them nothing says which."""
    ref = frontend.solve(State().file([FileStep(MkFile("/f", 0o644, b""))]))
    request = pb.ReturnRequest()
    request.result.refs.refs["linux/amd64"].id = ref.id
    request.result.refs.refs["linux/arm64"].id = ref.id
    listed = [{"ID": "linux/amd64", "Platform": {"os": "linux", "architecture": "amd64"}}]
    request.result.metadata["refs.platforms"] = json.dumps({"Platforms": listed}).encode()
    frontend.call.unary("Return", request)


def wrong(frontend: Frontend) -> None:
    """Says what is wrong, and where, as the frontends of others do."""
    request = pb.ReturnRequest()
    request.error.code, request.error.message = 2, "the second line is nonsense"
    source = {
        "info": {"filename": "Dockerfile", "data": "b25lCnR3bwp0aHJlZQ=="},
        "ranges": [{"start": {"line": 2}, "end": {"line": 2}}],
    }
    detail = json.dumps(source).encode()
    request.error.details.add(type_url="github.com/moby/buildkit/errdefs.Source+json", value=detail)
    frontend.call.unary("Return", request)
    sys.exit("panic: as frontends in Go do after an error")


def crashes(frontend: Frontend) -> None:
    sys.exit("it cannot go on")


def gives_nothing(frontend: Frontend) -> None:
    frontend.call.unary("Ping", pb.PingRequest())


def unknown_ref(frontend: Frontend) -> None:
    frontend.give(pb.Ref(id="nosuchref"))


def bad_config(frontend: Frontend) -> None:
    frontend.give(frontend.lent("context"), b'{"os": "linux", "architecture": ["amd64"], "config": 7}')


def bad_definition(frontend: Frontend) -> None:
    message = pb.SolveRequest(allowResultReturn=True, allowResultArrayRef=True)
    getattr(message.Definition, "def").append(b"\xff\xff\xff")
    frontend.call.unary("Solve", message)


def hangs(frontend: Frontend) -> None:
    frontend.solve(
        source("docker-image://docker.io/library/busybox:latest", {}, platform=host_platform()).run(
            Process(("sleep", "1000"))
        ),
        evaluate=True,
    )


def waits(frontend: Frontend) -> None:
    frontend.call.unary("Ping", pb.PingRequest())
    time.sleep(1000)


def answers(frontend: Frontend) -> None:
    """Answers questions about the file; the check finds as many things as the file has lines."""
    options = frontend.options
    lines = frontend.read(frontend.lent("dockerfile"), options["filename"]).decode().splitlines()
    if "broken" in lines:
        document = "[1, 2"
    elif options["requestid"] == "frontend.lint":
        error = {"buildError": {"message": "cannot be built"}} if "bad" in lines else {}
        document = json.dumps({"warnings": [{"ruleName": line} for line in lines], **error})
    else:
        document = json.dumps({"asked": options["requestid"], "target": options.get("target", "")})
    request = pb.ReturnRequest()
    request.result.metadata["result.json"] = document.encode()
    request.result.metadata["result.txt"] = f"told: {document}\n".encode()
    frontend.call.unary("Return", request)


def main() -> None:
    frontend = Frontend()
    word = frontend.options["cmdline"].partition(" ")[2]
    {function.__name__: function for function in WORDS}[word](frontend)


WORDS = (
    made,
    *(good, looks, execs, leaves_a_container, several, wrong, crashes, gives_nothing, unknown_ref),
    *(bad_config, bad_definition, hangs, waits, answers),
)


if __name__ == "__main__":
    if os.environ.get("GARBAGE"):
        os.write(1, b"HTTP/1.1 200 OK\r\n\r\n" * 1000)
        time.sleep(1000)
    main()
