"""`knarr build` by the command itself: where its input may come from, and what it leaves behind."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]


class Command:
    """`knarr` on a state directory of its own, in a directory of its own, with busybox within reach."""

    def __init__(self, directory: Path, hosts_dir: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.env = {
            **os.environ,
            "KNARR_ROOT": str(self.state),
            "KNARR_HOSTS_DIR": str(hosts_dir),
            "DOCKER_CONFIG": str(directory / "docker"),
        }

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.directory / name).write_text(text)

    def run(self, *argv: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "knarr", *argv],
            cwd=self.directory,
            env={**self.env, **env},
            input=stdin,
            capture_output=True,
            timeout=120,
        )

    def says(self, *argv: str, stdin: bytes = b"", **env: str) -> str:
        """What the steps of a build wrote, one line each, without numbers and times."""
        done = self.run("build", "--progress=rawjson", *argv, stdin=stdin, **env)
        assert done.returncode == 0, done.stderr.decode()
        logs = [log for line in done.stderr.splitlines() for log in json.loads(line).get("logs", ())]
        return b"".join(base64.b64decode(log["data"]) for log in logs).decode()


@pytest.fixture
def knarr(tmp_path: Path, bases: Any) -> Command:
    return Command(tmp_path, bases.hosts_dir)


def test_without_an_output_the_image_stays_in_the_store(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nRUN true\n")
    built = knarr.run("build", "-t", "app", "-t", "other:1", ".")
    assert built.returncode == 0, built.stderr
    assert built.stdout == b""
    listed = knarr.run("images").stdout.decode()
    assert "app" in listed
    assert "other" in listed


def test_quiet_prints_the_image_id_and_nothing_else(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nCOPY Dockerfile /\n")
    built = knarr.run("build", "-q", "--provenance=false", "--iidfile", "id", "--metadata-file", "meta.json", ".")
    assert built.stderr == b""
    described = json.loads((knarr.directory / "meta.json").read_text())
    assert built.stdout.decode().strip() == described["containerimage.config.digest"]
    assert (knarr.directory / "id").read_text() == described["containerimage.config.digest"]
    assert (knarr.directory / "id").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_dockerfile_on_standard_input_has_no_context(knarr: Command) -> None:
    assert knarr.says("-", stdin=b"FROM busybox\nRUN echo hello\n") == "hello\n"


def test_a_dockerfile_on_standard_input_beside_a_context(knarr: Command) -> None:
    knarr.write(data="from the context\n")
    assert knarr.says("-f", "-", ".", stdin=b"FROM busybox\nCOPY data /\nRUN cat /data\n") == "from the context\n"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_context_on_standard_input(knarr: Command, mode: str) -> None:
    archive = _archive(mode, Dockerfile="FROM busybox\nCOPY data /\nRUN cat /data\n", data="from the archive\n")
    assert knarr.says("-", stdin=archive) == "from the archive\n"
    assert list((knarr.state / "run/contexts").iterdir()) == [knarr.state / "run/contexts/owners"]


def _archive(mode: str, **files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]  # a mode of this table
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_a_context_that_reaches_outside_writes_nothing_there(knarr: Command, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        for name in ("../escaped", "out/escaped", "/escaped"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))
    knarr.run("build", "-", stdin=buffer.getvalue())
    assert not (tmp_path / "escaped").exists()
    assert not Path("/escaped").exists()
    assert not list(knarr.state.rglob("escaped"))


def test_the_ignore_file_beside_the_dockerfile_comes_first(knarr: Command) -> None:
    knarr.write(a="a", b="b", **{".dockerignore": "a\n", "other.dockerignore": "b\n"})
    text = "FROM busybox\nCOPY . /x\nRUN ls /x\n"
    knarr.write(Dockerfile=text, other=text)
    assert "\nb\n" in "\n" + knarr.says(".")
    assert "\na\n" in "\n" + knarr.says("-f", "other", ".")
    assert "\nb\n" not in "\n" + knarr.says("-f", "other", "--no-cache", ".")


def test_knarrs_own_state_is_no_part_of_the_context(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nCOPY . /x\nRUN ls -A /x\n")
    assert knarr.says(".").split() == ["Dockerfile"]
    assert knarr.says("-f", "-", ".", stdin=b"FROM busybox\nCOPY . /y\nRUN ls -A /y\n").split() == ["Dockerfile"]


def test_a_dockerfile_in_small_letters_is_found(knarr: Command) -> None:
    knarr.write(dockerfile="FROM busybox\nRUN echo small\n")
    assert knarr.says(".") == "small\n"


def test_options_reach_the_steps(knarr: Command) -> None:
    knarr.write(
        key="secret\n",
        Dockerfile="""FROM busybox
ARG A
RUN --mount=type=secret,id=key --mount=type=secret,id=word \\
    echo $A; cat /run/secrets/*; echo; grep 10.1.2.3 /etc/hosts; ulimit -n; df -k /dev/shm | tail -n1
""",
    )
    said = knarr.says(
        *("--build-arg", "A", "--secret", "id=key,src=key", "--secret", "id=word,env=WORD"),
        *("--add-host", "db:10.1.2.3", "--ulimit", "nofile=333:444", "--shm-size", "3m", "."),
        A="from the environment",
        WORD="spoken",
    )
    assert said.splitlines()[:2] == ["from the environment", "secret"]
    assert said.splitlines()[2] == "spoken"
    assert said.splitlines()[3].split() == ["10.1.2.3", "db"]
    assert said.splitlines()[4] == "333"
    assert said.splitlines()[5].split()[1] == "3072"


def test_a_named_context(knarr: Command) -> None:
    (knarr.directory / "lib").mkdir()
    (knarr.directory / "lib/file").write_text("of the library\n")
    (knarr.directory / "app").mkdir()
    (knarr.directory / "app/Dockerfile").write_text("FROM base\nCOPY --from=lib file /\nRUN cat /file\n")
    said = knarr.says("--build-context", "lib=lib", "--build-context", "base=docker-image://busybox", "app")
    assert said == "of the library\n"


def test_stages_are_built_at_the_same_time(knarr: Command) -> None:
    wait = "for i in $(seq 100); do [ -e /m/{} ] && exit 0; sleep 0.1; done; exit 1"
    meeting = "--mount=type=cache,id=meeting,target=/m touch /m/{}; " + wait
    knarr.write(
        Dockerfile=f"""FROM busybox AS a
RUN {meeting.format("a", "b")}
FROM busybox AS b
RUN {meeting.format("b", "a")}
FROM busybox
COPY --from=a /etc/passwd /a
COPY --from=b /etc/passwd /b
"""
    )
    built = knarr.run("build", "--progress=plain", ".")
    assert built.returncode == 0, built.stderr.decode()


def test_a_failing_step_shows_its_place_and_its_last_words(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nRUN echo last words; exit 7\n")
    failed = knarr.run("build", "--progress=plain", ".")
    said = failed.stderr.decode()
    assert failed.returncode == 1
    assert "Dockerfile:2\n" in said
    assert "  2 | >>> RUN echo last words; exit 7" in said
    assert "last words\n------\nerror: process" in said
    assert "exit code: 7" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("nowhere",), "error: nowhere: no such directory for the build context"),
        (("Dockerfile",), "error: Dockerfile: the build context must be a directory"),
        (("-f", "nowhere", "."), "error: nowhere: No such file or directory"),
        (("x.git#main",), "error: x.git#main: not the URL of a repository or of a file"),
        (("--cache-to=type=s3,bucket=x", "."), "error: --cache-to type=s3 is not supported"),
        (("-o", "type=oic,dest=x", "."), "error: output type 'oic' is not known"),
    ],
)
def test_what_cannot_be_built_is_told_at_once(knarr: Command, argv: tuple[str, ...], message: str) -> None:
    knarr.write(Dockerfile="FROM busybox\n")
    failed = knarr.run("build", *argv)
    assert failed.returncode == 2
    assert failed.stderr.decode().startswith(message)


def test_nothing_on_standard_input(knarr: Command) -> None:
    failed = knarr.run("build", "-")
    assert failed.returncode == 2
    assert failed.stderr.decode().startswith("error: nothing came on standard input")


@pytest.fixture
def running(knarr: Command) -> Iterator[subprocess.Popen[bytes]]:
    """A build in the middle of a RUN."""
    knarr.write(Dockerfile=f"FROM busybox\nRUN echo begun; sleep 3600 # {knarr.directory}\n")
    command = [sys.executable, "-m", "knarr", "build", "--progress=plain", "."]
    process = subprocess.Popen(command, cwd=knarr.directory, env=knarr.env, stderr=subprocess.PIPE)
    assert process.stderr is not None
    while b" begun" not in process.stderr.readline():
        assert process.poll() is None
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_build_that_is_stopped_leaves_nothing(
    knarr: Command, running: subprocess.Popen[bytes], number: int, status: int
) -> None:
    started = time.monotonic()
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == status
    assert time.monotonic() - started < 10
    assert b"Traceback" not in said
    assert _left(knarr) == []
    assert knarr.run("doctor", "--store").returncode == 0


def test_after_a_kill_the_next_build_cleans_up(knarr: Command, running: subprocess.Popen[bytes]) -> None:
    running.kill()
    running.wait()
    assert knarr.run("doctor", "--store").returncode == 1
    knarr.write(Dockerfile="FROM busybox\nRUN echo again\n")
    assert knarr.says(".") == "again\n"
    assert _left(knarr) == []
    checked = knarr.run("doctor", "--store")
    assert checked.returncode == 0, checked.stdout


def _left(knarr: Command) -> list[str]:
    """Mounts below the state directory, and processes of steps of this build."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [mount for mount in mounts if mount.startswith(str(knarr.state))]
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes()
        except OSError:
            continue
        if b"sleep 3600" in words and str(knarr.directory).encode() in words:
            left.append(words.decode())
    return left


def test_a_damaged_blob_is_found_and_removed(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nRUN echo x > /x\n")
    assert knarr.run("build", "-t", "app", ".").returncode == 0
    blob = max((knarr.state / "content/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    blob.chmod(0o600)
    blob.write_bytes(b"damaged" + blob.read_bytes()[7:])
    checked = knarr.run("doctor", "--store")
    assert checked.returncode == 1
    assert f"damaged: sha256:{blob.name}" in checked.stdout.decode()
    assert knarr.run("doctor", "--store", "--repair").returncode == 0
    assert not blob.exists()


def test_why_a_step_ran_and_what_the_cache_takes(knarr: Command) -> None:
    knarr.write(Dockerfile="FROM busybox\nCOPY file /\nRUN cat /file\n", file="one")
    knarr.run("build", ".")
    knarr.write(file="two")
    knarr.run("build", ".")
    told = knarr.run("debug", "why", "COPY file").stdout.decode()
    assert "file" in told.splitlines()[1]
    assert "RUN cat /file" in knarr.run("du").stdout.decode()
    assert knarr.run("prune", "--force").stdout.decode().splitlines()[-1].startswith("freed ")
    assert "RUN cat /file" not in knarr.run("du").stdout.decode()


def test_the_graph_of_a_build_is_a_definition(knarr: Command) -> None:
    from knarr.llb.decode import decode

    knarr.write(Dockerfile="FROM busybox\nRUN echo hello\n")
    graph = decode(knarr.run("debug", "llb", ".").stdout)
    assert len(graph.vertices) == 2


def test_the_graphs_of_several_platforms_are_written_to_files_as_lines_and_as_a_drawing(knarr: Command) -> None:
    from knarr.llb.decode import decode

    knarr.write(Dockerfile="FROM busybox AS one\nCOPY a /a\nRUN true\n", a="")
    both = ("--platform", "linux/amd64,linux/arm64", ".")
    refused = knarr.run("debug", "llb", *both)
    assert (refused.returncode, b"--into DIR" in refused.stderr) == (2, True)
    paths = knarr.run("debug", "llb", "--into", "graphs", *both).stdout.decode().split()
    assert paths == ["graphs/linux_amd64.pb", "graphs/linux_arm64.pb"]
    graphs = [decode((knarr.directory / path).read_bytes()) for path in paths]
    lines = [json.loads(line) for line in knarr.run("debug", "llb", "--json", *both).stdout.splitlines()]
    assert [line["digest"] for line in lines] == [str(digest) for graph in graphs for digest in graph.vertices]
    assert [line["platform"] for line in lines if line["result"]] == ["linux/amd64", "linux/arm64"]
    copy = next(line for line in lines if line["name"] == "[linux/amd64 2/3] COPY a /a")
    assert copy["op"]["file"]["actions"][0]["copy"]["dest"] == "/a"
    drawn = knarr.run("debug", "llb", "--dot", *both).stdout.decode()
    assert drawn.count("->") == 6
    assert drawn.count("[internal] load build context") == 1  # which the platforms share
    assert "RUN true\\nlinux/arm64" in drawn


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--into"], "--into wants a directory"),
        (["--json", "--into", "x", "."], "--json goes to standard output"),
        (["--into", "/proc/x", "."], "--into /proc/x: No such file or directory"),
    ],
)
def test_a_wrong_way_to_ask_for_a_graph(knarr: Command, words: list[str], told: str) -> None:
    knarr.write(Dockerfile="FROM scratch\nCOPY a /a\n", a="")
    refused = knarr.run("debug", "llb", *words)
    assert (refused.returncode, told in refused.stderr.decode()) == (2, True)
