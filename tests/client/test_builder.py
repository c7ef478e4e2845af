"""`knarr build --builder` against daemons as their users start them: knarr's own, and BuildKit's."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.buildkit.service import Caller
from knarr.client.connection import CONTROL
from knarr.pb import control_pb2 as pb
from tests.daemon.conftest import Running, running

pytestmark = [pytest.mark.root, pytest.mark.system]
Knarr = Callable[..., str]

COPIES = """\
FROM scratch AS files
COPY --chmod=600 hello /etc/
FROM scratch
LABEL made=by
COPY . /all/
COPY --from=files /etc /etc
COPY --link sub/deep /deep/
ENV A=b
CMD ["/all/hello"]
"""


def write(context: Path, text: str) -> None:
    (context / "Dockerfile").write_text(text)


@pytest.mark.parametrize("platforms", ["linux/amd64", "linux/amd64,linux/arm64"])
def test_copying_alone_gives_the_digests_of_our_own_engine(
    knarr: Knarr, builder: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platforms: str
) -> None:
    """Of everything but how layers are compressed: gzip's output is each program's own."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write(context, COPIES)
    output = f"type=oci,dest={tmp_path}/out.tar,compression=uncompressed,rewrite-timestamp=true"
    words = (
        "build",
        "--platform",
        platforms,
        "--provenance=false",
        "--progress=none",
        "--metadata-file",
        str(tmp_path / "told"),
        "-o",
        output,
    )
    told = []
    for where in ((), ("--builder", builder)):
        knarr(*words, *where, str(context))
        found = json.loads((tmp_path / "told").read_text())
        told.append((found["containerimage.digest"], found.get("containerimage.config.digest")))
    assert told[0] == told[1]


def test_without_an_output_the_image_is_loaded_here(knarr: Knarr, builder: str, context: Path, tmp_path: Path) -> None:
    write(context, COPIES)
    iid = tmp_path / "iid"
    knarr(
        "build",
        "--builder",
        builder,
        "-t",
        "far:1",
        "--platform=linux/amd64,linux/arm64",
        "--iidfile",
        str(iid),
        str(context),
    )
    assert json.loads(knarr("inspect", "far:1"))
    knarr("save", "-o", str(tmp_path / "x.tar"), "far:1")  # so everything has come
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert f"blobs/sha256/{iid.read_text().removeprefix('sha256:')}" in archive.getnames()


def test_what_is_lent_reaches_the_steps(
    knarr: Knarr, builder: str, busybox: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        context,
        f"FROM {busybox}\n"
        "COPY . /c\n"
        "RUN --mount=type=secret,id=key test $(cat /run/secrets/key) = s3cr3t\n"
        "RUN --mount=type=secret,id=word,env=WORD test $WORD = fromenv\n"
        'RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"\n'
        "ARG V\nRUN test $V = argument\n"
        "RUN test ! -e /c/secret.txt && test $(stat -c %a /c/hello) = 664 && test -L /c/link\n"
        "RUN test /c/sub/one -ef /c/sub/same && test $(stat -c %u /c/hello) = 0\n"
        "COPY --from=more * /more/\n"
        "RUN test -f /more/only && test $(ls /more | wc -l) = 1\n",
    )
    (tmp_path / "key").write_text("s3cr3t")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/only").write_text("")
    os.chown(context / "hello", 12, 34)
    monkeypatch.setenv("WORD", "fromenv")
    lent = ("--secret", f"id=key,src={tmp_path}/key", "--secret", "id=word,env=WORD", "--ssh", f"default={tmp_path}/id")
    contexts = ("--build-context", f"more={tmp_path}/more", "--build-arg", "V=argument")
    knarr("build", "--builder", builder, *lent, *contexts, "-o", "type=cacheonly", str(context))


def test_outputs_of_all_kinds_come_back(
    knarr: Knarr, builder: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(context, "FROM scratch\nCOPY hello link /\nCOPY sub /sub\n")
    dest = tmp_path / "tree"
    dest.mkdir()
    (dest / "mine").write_text("stays")
    (dest / "hello").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("untouched")
    outputs = [
        *("-o", f"type=local,dest={dest}", "-o", f"type=tar,dest={tmp_path}/t.tar"),
        *("-o", f"type=oci,dest={tmp_path}/o.tar", "-o", f"type=docker,dest={tmp_path}/d.tar"),
        *("-o", f"type=oci,tar=false,dest={tmp_path}/layout"),
    ]
    knarr("build", "--builder", builder, "-t", "app:1", *outputs, str(context))
    assert (dest / "mine").read_text() == "stays"
    assert not (dest / "hello").is_symlink()
    assert (dest / "hello").read_text() == "hello\n"
    assert (tmp_path / "outside").read_text() == "untouched"
    assert (dest / "sub/one").stat().st_ino == (dest / "sub/same").stat().st_ino
    with tarfile.open(tmp_path / "t.tar") as archive:
        assert "sub/deep/two" in archive.getnames()
    for name in ("o", "d"):
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            assert "index.json" in archive.getnames()
    listed = json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    assert [entry["annotations"]["io.containerd.image.name"] for entry in listed] == ["docker.io/library/app:1"]
    assert sorted(path.name for path in (tmp_path / "layout").iterdir()) == ["blobs", "index.json", "oci-layout"]
    knarr("copy", f"oci:{tmp_path}/layout:1", f"oci:{tmp_path}/copy:1")  # every blob is there, and right


def test_delete_leaves_nothing_but_the_result(knarr: Knarr, builder: str, context: Path, tmp_path: Path) -> None:
    write(context, "FROM scratch\nCOPY hello /\n")
    dest = tmp_path / "tree"
    (dest / "old").mkdir(parents=True)
    words = ("-o", f"type=local,dest={dest},mode=delete", "--allow", "buildx.local.delete")
    knarr("build", "--builder", builder, *words, str(context))
    assert [path.name for path in dest.iterdir()] == ["hello"]


def test_a_layout_is_a_context(knarr: Knarr, builder: str, bases: Any, context: Path, tmp_path: Path) -> None:
    write(context, "FROM base\nCOPY hello /\n")
    layout = ("--build-context", f"base=oci-layout://{bases.layout}:latest")
    knarr("build", "--builder", builder, *layout, "-o", f"type=local,dest={tmp_path}/out", str(context))
    assert (tmp_path / "out/hello").exists()
    assert (tmp_path / "out/bin/busybox").exists()


def test_a_failing_step_is_shown_in_the_file_with_what_it_said(
    knarr: Knarr, builder: str, busybox: str, context: Path
) -> None:
    write(context, f"FROM {busybox}\nRUN echo before\nRUN echo it is so; exit 7\n")
    said = knarr("build", "--builder", builder, str(context), status=1)
    assert f"{context}/Dockerfile:3\n" in said
    assert "  3 | >>> RUN echo it is so; exit 7" in said
    assert said.rstrip().splitlines()[-1].endswith("did not complete successfully: exit code: 7")
    assert "\nit is so\n------\n" in said


def test_a_line_that_is_wrong_is_shown(knarr: Knarr, builder: str, context: Path) -> None:
    write(context, "FROM scratch\nCOPPY a b\n")
    said = knarr("build", "--builder", builder, str(context), status=1)
    assert "  2 | >>> COPPY a b" in said
    assert "unknown instruction: COPPY" in said


def test_warnings_and_checks_are_the_builders(knarr: Knarr, builder: str, context: Path) -> None:
    write(context, "FROM scratch AS Here\nMAINTAINER me\nCOPY hello /\n")
    said = knarr("build", "--builder", builder, "--check", str(context), status=1)
    assert "Check complete, 2 warnings have been found!" in said
    assert "here" in knarr("build", "--builder", builder, "--call", "targets", str(context))
    (context / "Dockerfile").write_text("FROM scratch\nCOPY hello /\n")
    assert "no warnings found" in knarr("build", "--builder", builder, "--check", str(context))


def test_steps_are_kept_in_a_directory_of_ours_and_found_again(
    knarr: Knarr, builder: str, busybox: str, context: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(context, f"FROM {busybox}\nRUN cat /proc/sys/kernel/random/uuid > /id\n")
    cache = tmp_path / "cache"
    common = ("build", "--builder", builder, "--progress=plain", "--target", "", "-o")
    knarr(
        *common,
        f"type=local,dest={tmp_path}/one",
        "--no-cache",
        "--cache-to",
        f"type=local,dest={cache},mode=max",
        str(context),
    )
    assert json.loads((cache / "index.json").read_text())["manifests"]
    assert sorted(path.name for path in cache.iterdir()) == ["blobs", "index.json", "oci-layout"]
    knarr(*common, f"type=local,dest={tmp_path}/two", "--cache-from", f"type=local,src={cache}", str(context))
    assert (tmp_path / "one/id").read_text() == (tmp_path / "two/id").read_text()


def test_only_what_changed_is_sent_again_and_nothing_is_left_here(builder: str, context: Path, tmp_path: Path) -> None:
    write(context, "FROM scratch\nCOPY sub /\n")
    command = [
        sys.executable,
        "-m",
        "knarr",
        "build",
        "--builder",
        builder,
        "--progress=rawjson",
        "-o",
        "type=cacheonly",
    ]
    environ = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    sizes = []
    for text in ("1", "changed"):
        (context / "sub/one").write_text(text)
        done = subprocess.run([*command, str(context)], capture_output=True, text=True, env=environ, check=True)
        told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        statuses = [status for one in told for status in one.get("statuses") or ()]
        sizes.append(max(s["current"] for s in statuses if s["id"].startswith("transferring context")))
    assert sizes[0] > 300_000 > 3000 > sizes[1]
    left = [path.name for path in (tmp_path / "state/run/builders").iterdir()]
    assert left == ["owners"]


def test_ctrl_c_ends_the_build_there_as_well(builder: str, busybox: str, context: Path, tmp_path: Path) -> None:
    write(context, f"FROM {busybox}\nRUN echo {tmp_path.name} && sleep 301.{os.getpid()}\n")
    command = [sys.executable, "-m", "knarr", "build", "--builder", builder, "--progress=plain", str(context)]
    environ = {**os.environ, "KNARR_ROOT": str(tmp_path / "state")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith(f" {tmp_path.name}"):
            break
    process.send_signal(signal.SIGINT)
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130
    assert said.rstrip().endswith("cancelled")
    deadline = time.monotonic() + 20
    step = ["pgrep", "-fx", f"sleep 301.{os.getpid()}"]
    while subprocess.run(step, capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < deadline, "the step still runs"
        time.sleep(0.1)


def test_a_builder_that_dies_is_told_as_such(knarr: Knarr, bases: Any, context: Path, tmp_path: Path) -> None:
    write(context, f"FROM {bases.address}/library/busybox\nRUN sleep 300\n")
    with running(tmp_path / "daemon") as daemon:
        from knarr.scope import Scope

        def kill() -> None:
            wait_for(daemon, "sleep 300")
            daemon.process.kill()

        with Scope() as scope:
            scope.start(kill)
            said = knarr("build", "--builder", f"unix://{daemon.socket}", str(context), status=1)
    assert f"error: builder unix://{daemon.socket} went away in the middle of the build" in said
    with running(tmp_path / "daemon"):
        pass  # the next one cleans up what a dead one left running


def wait_for(daemon: Running, step: str) -> None:
    """Until a build of the daemon runs `step`."""
    with daemon.channel() as channel:
        control = Caller(channel, CONTROL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for event in control.stream("ListenBuildHistory", pb.BuildHistoryRequest(ActiveOnly=True, EarlyExit=True)):
                for status in control.stream("Status", pb.StatusRequest(Ref=event.record.Ref)):
                    if any(step in vertex.name and vertex.HasField("started") for vertex in status.vertexes):
                        return
            time.sleep(0.05)
    raise AssertionError(f"no build runs {step}")


def test_pushing_is_the_builders_work(knarr: Knarr, builder: str, bases: Any, context: Path) -> None:
    write(context, COPIES)
    name = f"{bases.address}/far/pushed:1"
    knarr("build", "--builder", builder, "-t", name, "--platform=linux/amd64,linux/arm64", "--push", str(context))
    assert json.loads(knarr("manifest", name, "--raw"))["manifests"]
    assert knarr("images") == knarr("images", "--filter", "reference=nothing") or "far/pushed" not in knarr("images")


def test_what_is_pushed_and_loaded_is_one_image(
    knarr: Knarr, builder: str, bases: Any, context: Path, tmp_path: Path
) -> None:
    write(context, "FROM scratch\nCOPY hello /\n")
    name, told = f"{bases.address}/far/both:1", tmp_path / "told"
    words = ("-t", name, "--push", "--load", "--metadata-file", str(told))
    knarr("build", "--builder", builder, *words, str(context))
    digest = json.loads(told.read_text())["containerimage.digest"]
    assert digest in knarr("inspect", name)
    raw = knarr("manifest", name, "--raw").encode()
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == digest


def test_what_only_our_engine_can_do_is_refused_by_name(knarr: Knarr, builder: str, context: Path) -> None:
    write(context, COPIES)
    said = knarr("build", "--builder", builder, "--pull=never", str(context), status=1)
    assert "--pull=never: a builder elsewhere cannot be kept from its registries" in said
    both = ("--load", "-o", f"type=oci,tar=false,dest={context}/../l")
    assert "two outputs want them" in knarr("build", "--builder", builder, *both, str(context), status=2)


def test_environment_and_name_choose_the_builder(
    knarr: Knarr, builder: str, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(context, "FROM scratch\nCOPY hello /\n")
    knarr("builder", "create", "--name", "mine", "--bootstrap", builder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KNARR_BUILDER", "mine")
        patch.setenv("BUILDKIT_HOST", "tcp://127.0.0.1:1")
        knarr("build", "-o", "type=cacheonly", str(context))
        patch.setenv("KNARR_BUILDER", "")
        assert "no builder listens at tcp://127.0.0.1:1" in knarr("build", str(context), status=1)
        knarr("build", "--builder=default", "-o", "type=cacheonly", str(context))
    knarr("builder", "use", "mine")
    assert "mine*" in knarr("builder", "ls")
    monkeypatch.setenv("PATH", "")  # our own engine would find no runtime; a builder needs none here
    knarr("build", "-o", "type=cacheonly", str(context))
