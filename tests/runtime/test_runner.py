"""Steps in real containers, each under crun and under runc."""

from __future__ import annotations

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

from knarr.errors import Cancelled, NotFound, RuntimeFailed, Unsupported, UsageError
from knarr.runtime import cgroups
from knarr.runtime.process import BindMount, ProcessSpec, SecretFile, TmpfsMount, Ulimit
from knarr.runtime.runner import Runtime
from knarr.scope import Scope

Run = Callable[..., Any]  # the fixture `run`
LIMITED = f"/knarr-limit-{os.getpid()}"
GROUP = f"/knarr-test-{os.getpid()}"  # others may run steps on this machine at the same time

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture(scope="module", autouse=True)
def remove_group() -> Iterator[None]:
    yield
    cgroups.remove(GROUP)


def test_status_and_both_streams_come_back(run: Run) -> None:
    ran = run("echo out; echo err >&2; exit 7")
    assert (ran.status, ran.out, ran.err) == (7, "out\n", "err\n")


@pytest.mark.parametrize("program", ["crun", "runc"])
def test_the_state_may_lie_anywhere(tree: Path, tmp_path: Path, program: str) -> None:
    runtime = Runtime(tmp_path / 'a:b,c d="e"\\f', program)
    spec = ProcessSpec(tree, ("/bin/cat", "/s", "/etc/hosts"), mounts=(SecretFile("/s", b"secret"),))
    said: list[bytes] = []
    with Scope() as scope:
        ended = runtime.run(spec, output=lambda _, data: said.append(data), scope=scope)
        with pytest.raises(RuntimeFailed, match="nosuchprogram"):
            runtime.run(ProcessSpec(tree, ("nosuchprogram",)), output=lambda *_: None, scope=scope)
    runtime.close()
    assert (ended.status, b"".join(said)[:15]) == (0, b"secret127.0.0.1")


def test_a_signal_is_a_status_of_128_and_more(run: Run) -> None:
    # The first process of a container is immune to its own signals: a child of it is killed.
    assert run("sh -c 'kill -TERM $$'; exit $?").status == 128 + signal.SIGTERM


def test_the_sandbox_is_the_one_the_field_has(run: Run) -> None:
    lines = run(
        "umask; hostname; pwd; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; df -m /dev/shm | tail -1"
    ).out
    words = lines.split()
    assert words[:3] == ["0022", "buildkitsandbox", "/"]
    assert "00000000a80425fb" in words  # the fourteen, as measured with BuildKit
    assert words[words.index("NoNewPrivs:") + 1] == "0"
    assert words[words.index("Seccomp:") + 1] == "2"
    assert "64" in words


def test_environment_has_path_and_home(run: Run) -> None:
    env = dict(line.split("=", 1) for line in run("env", env=("A=1", "B=x=y", "A=2")).out.splitlines())
    assert env["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert (env["HOME"], env["A"], env["B"]) == ("/root", "2", "x=y")
    mine = run("echo $PATH $HOME", env=("PATH=/bin", "HOME=/elsewhere"))
    assert mine.out == "/bin /elsewhere\n"


def test_etc_files_are_the_builders(run: Run, tree: Path) -> None:
    (tree / "etc/hosts").write_text("the image's own\n")
    ran = run("cat /etc/hosts /etc/resolv.conf", extra_hosts=(("db", "10.0.0.7"),))
    assert ran.out.startswith(
        "127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.7\tdb\n"
    )
    assert ran.out.endswith(Path("/etc/resolv.conf").read_text())
    assert (tree / "etc/hosts").read_text() == "the image's own\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root) /root"),
        ("app", "uid=1000(app) gid=1001(app) groups=1001(app),2000(extra),2001(last) /home/app"),
        ("1000:2000", "uid=1000(app) gid=2000(extra) groups=2000(extra) /home/app"),
        ("4711", "uid=4711 gid=0(root) groups=0(root) /"),
    ],
)
def test_user(run: Run, user: str, expected: str) -> None:
    assert run("echo $(id) $HOME", user=user).out.strip() == expected


def test_an_unknown_user_is_named(run: Run) -> None:
    with pytest.raises(NotFound, match="user nobody: not in the image's /etc/passwd"):
        run("true", user="nobody")


def test_the_working_directory_is_made_for_the_user(run: Run, tree: Path) -> None:
    assert run("pwd", cwd="/srv/deep", user="app").out == "/srv/deep\n"
    for path in ("srv", "srv/deep"):
        info = (tree / path).stat()
        assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1000, 1001, 0o755)


def test_denied_system_calls_fail_and_allowed_ones_work(run: Run) -> None:
    assert run("unshare -m true").status != 0
    assert run("mount -t tmpfs x /tmp").status != 0
    assert run("chroot / true").status == 0
    assert run("mknod /tmp/null c 1 3").status == 0


def test_insecure_lifts_the_sandbox(run: Run) -> None:
    ran = run("mount -t tmpfs x /tmp && grep Seccomp: /proc/self/status; ls /dev/loop-control", security="insecure")
    assert ran.status == 0
    assert ran.out.split() == ["Seccomp:", "0", "/dev/loop-control"]


def test_no_network_is_a_loopback_that_is_up(run: Run) -> None:
    assert run("ip -o link | wc -l; ping -c1 -W1 127.0.0.1 >/dev/null && echo up", network="none").out == "1\nup\n"


def test_limits_and_sizes(run: Run) -> None:
    ran = run("ulimit -n; df -m /dev/shm | tail -1", ulimits=(Ulimit("nofile", 100, 200),), shm_size_bytes=9 << 20)
    assert ran.out.split()[0] == "100"
    assert "9" in ran.out.split()
    with pytest.raises(UsageError, match="ulimit noodles"):
        run("true", ulimits=(Ulimit("noodles", 1, 1),))


def test_binds_tmpfs_and_secrets(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("from outside\n")
    mounts = (
        BindMount(data, "/read", readonly=True),
        BindMount(data, "/deep/write"),
        BindMount(data / "file", "/one/file", readonly=True),
        TmpfsMount("/scratch", 5 << 20),
        SecretFile("/run/secrets/token", b"s3cret", uid=1000, gid=1001),
    )
    ran = run(
        "cat /read/file /one/file; touch /read/x || echo read-only; echo new > /deep/write/new;"
        "stat -c '%a' /scratch; stat -c '%a %u:%g' /run/secrets/token /run/secrets; cat /run/secrets/token",
        mounts=mounts,
    )
    assert ran.out == "from outside\nfrom outside\nread-only\n1777\n400 1000:1001\n755 0:0\ns3cret"
    assert (data / "new").read_text() == "new\n"


def listing(tree: Path) -> list[tuple[str, int, int]]:
    found = []
    for here, directories, files in os.walk(tree):
        for name in (".", *directories, *files):
            info = os.lstat(os.path.join(here, name))
            found.append((os.path.join(here, name), info.st_mtime_ns, info.st_size))
    return sorted(found)


def test_mount_points_leave_no_trace(run: Run, tree: Path, tmp_path: Path) -> None:
    for here, _, _ in os.walk(tree):
        os.utime(here, ns=(1, 1_000_000_000))
    before = listing(tree)
    source = tmp_path / "source"
    source.mkdir()
    mounts = (
        BindMount(source, "/new/deep/mount", readonly=True),
        TmpfsMount("/new/deep/other"),
        SecretFile("/run/secrets/a", b"a"),
        BindMount(source, "/etc/some/dir"),
    )
    assert run("ls /new/deep/mount /run/secrets", mounts=mounts).status == 0
    after = listing(tree)
    assert [(path, size) for path, _, size in after] == [(path, size) for path, _, size in before]
    # Only where something was made for a mount does a directory's time move, as with BuildKit.
    moved = {path for (path, now, _), (_, then, _) in zip(after, before, strict=True) if now != then}
    assert {os.path.relpath(path, tree) for path in moved} <= {".", "etc", "etc/.", "run", "run/."}


def test_what_a_step_does_beside_a_mount_point_stays(run: Run, tree: Path, tmp_path: Path) -> None:
    mounts = (TmpfsMount("/new/deep/mount"),)
    assert run("touch /new/mine; echo x > /new/deep/mount/gone", mounts=mounts).status == 0
    assert sorted(os.listdir(tree / "new")) == ["mine"]


def test_a_mount_inside_a_mount(run: Run, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    mounts = (TmpfsMount("/cache/inner/deep"), BindMount(cache, "/cache"))
    assert run("stat -f -c %T /cache/inner/deep", mounts=mounts).out == "tmpfs\n"


def test_a_step_cannot_aim_the_cleaning_up_at_the_host(run: Run, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    mounts = (TmpfsMount("/new/deep/mount"),)
    # The step renames the way to the mount point and puts a symlink to a host path in its place.
    assert run(f"mv /new /old; ln -s {tmp_path}/victim /new", mounts=mounts).status == 0
    (victim / "deep/mount").mkdir()
    assert os.listdir(victim) == ["deep"]
    (victim / "deep/mount").rmdir()


def test_a_read_only_root(run: Run) -> None:
    assert run("touch /x || echo refused", readonly_root=True).out == "refused\n"


def test_output_larger_than_any_pipe(run: Run) -> None:
    assert len(run("head -c 3000000 /dev/zero").out) == 3_000_000


def test_a_broken_pipe_kills_as_in_any_shell(run: Run) -> None:
    # Python ignores SIGPIPE; ignored signals would be inherited and `yes` would complain.
    ran = run("yes | head -n 1; set -o pipefail; yes | head -n 1; echo $?")
    assert (ran.out, ran.err) == ("y\ny\n141\n", "")


def test_what_runs_on_in_the_background_ends_with_the_step(run: Run) -> None:
    start = time.monotonic()
    assert run("sleep 4242 & echo started").out == "started\n"
    assert time.monotonic() - start < 5
    assert "4242" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_program_that_is_not_there(run: Run) -> None:
    with pytest.raises(RuntimeFailed, match="/bin/none") as caught:
        run(["/bin/none"])
    assert "the image has no /bin/none" in caught.value.hint


def test_a_program_for_another_machine(run: Run, tree: Path) -> None:
    program = bytearray((tree / "bin/busybox").read_bytes()[:4096])
    program[18:20] = (0xF3).to_bytes(2, "little")
    (tree / "bin/foreign").write_bytes(program)
    (tree / "bin/foreign").chmod(0o755)
    with pytest.raises(RuntimeFailed, match=r"(?i)exec format error") as caught:
        run(["/bin/foreign"])
    assert "another platform" in caught.value.hint


def test_failing_output_ends_the_container(runtime: Runtime, tree: Path) -> None:
    def full(stream: int, data: bytes) -> None:
        raise OSError("no space")

    spec = ProcessSpec(tree, ("/bin/sh", "-c", "echo x; sleep 600"))
    with pytest.raises(OSError, match="no space"), Scope() as scope:
        runtime.run(spec, output=full, scope=scope)


@pytest.mark.parametrize(
    "command", ["trap '' TERM INT; sleep 600", "while :; do :; done", "sleep 600 & sleep 600 & wait"]
)
def test_cancellation_ends_every_process(runtime: Runtime, tree: Path, command: str) -> None:
    started = threading.Event()
    spec = ProcessSpec(tree, ("/bin/sh", "-c", f"echo up; {command}"), cgroup_parent=GROUP)
    scope = Scope()
    scope_ended = []

    def steps() -> None:
        with pytest.raises(Cancelled):
            runtime.run(spec, output=lambda *_: started.set(), scope=scope)
        scope_ended.append(time.monotonic())

    thread = threading.Thread(target=steps)
    thread.start()
    assert started.wait(20)
    at = time.monotonic()
    scope.cancel()
    thread.join(20)
    assert scope_ended
    assert scope_ended[0] - at < 3
    assert cgroups.pids(GROUP) == set()
    assert groups() == []


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 8, 12])
def test_cancellation_while_the_container_comes_up(runtime: Runtime, tree: Path, delay_ms: int) -> None:
    scope = Scope()
    timer = threading.Timer(delay_ms / 1000, scope.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        runtime.run(ProcessSpec(tree, ("/bin/sleep", "600"), cgroup_parent=GROUP), output=lambda *_: None, scope=scope)
    timer.join()
    assert cgroups.pids(GROUP) == set()
    assert groups() == []


def test_steps_run_at_the_same_time(runtime: Runtime, tree: Path) -> None:
    for name in ("proc", "dev", "sys"):  # one tree for all, so that no mount point may be missing
        (tree / name).mkdir()
    for name in ("hosts", "resolv.conf"):
        (tree / "etc" / name).touch()
    seen: list[bytes] = []
    with Scope() as scope:
        outcomes = [
            scope.start(
                runtime.run,
                ProcessSpec(tree, ("/bin/sh", "-c", f"sleep 0.2; echo {n}")),
                output=lambda _, data: seen.append(data),
                scope=scope,
            )
            for n in range(8)
        ]
        assert [outcome.result().status for outcome in outcomes] == [0] * 8
    assert sorted(b"".join(seen).split()) == [b"%d" % n for n in range(8)]


KILLED = """
import sys
from pathlib import Path
from knarr.runtime.process import ProcessSpec, SecretFile
from knarr.runtime.runner import Runtime
from knarr.scope import Scope
from knarr.snapshot.namespace import private_mounts
if sys.argv[3] == "crun":
    private_mounts()
args = ("/bin/sh", "-c", "echo up; sleep 43210")
spec = ProcessSpec(Path(sys.argv[2]), args, mounts=(SecretFile("/s", b"secret"),), cgroup_parent=sys.argv[4])
def output(stream, data):
    print("ready", flush=True)
with Scope() as scope:
    Runtime(Path(sys.argv[1]), sys.argv[3]).run(spec, output=output, scope=scope)
"""
SWEEP = """
import sys
from pathlib import Path
from knarr.runtime.runner import Runtime
from knarr.snapshot.namespace import private_mounts
private_mounts()
print(Runtime(Path(sys.argv[1])).sweep())
"""


def groups() -> list[Path]:
    """The cgroups of containers, also those in the tree that is hidden from crun."""
    return list(Path("/sys/fs/cgroup").glob(f"*{GROUP}/knarr/*/"))


def test_no_cgroup_is_left(run: Run) -> None:
    assert run("exit 3", cgroup_parent=GROUP).status == 3
    assert groups() == []


def swept(state: Path) -> int:
    """What a new process finds to sweep."""
    argv = [sys.executable, "-c", SWEEP, state]
    return int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("name", ["crun", "runc"])
def test_sweep_ends_what_a_killed_process_left(tmp_path: Path, tree: Path, name: str) -> None:
    # With runc, this process has no mounts of its own, so that a tmpfs with a secret is left, too.
    state = tmp_path / "state"
    argv = [sys.executable, "-c", KILLED, state, tree, name, GROUP]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert swept(state) == 0
        process.kill()
    assert len(list(state.glob(f"{name}/*"))) == 1
    assert len(list(state.glob("bundles/*/*/secrets/0"))) == (name == "runc")
    assert cgroups.pids(GROUP)
    assert swept(state) == 1
    assert cgroups.pids(GROUP) == set()
    assert "43210" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert list(state.glob("bundles/*")) + list(state.glob(f"{name}/*")) + list(state.glob("owners/*")) == []
    assert groups() == []


def test_the_kernels_killing_for_memory_is_noticed(run: Run) -> None:
    limit = Path(f"/sys/fs/cgroup/memory{LIMITED}")
    if cgroups.is_unified():
        limit = Path(f"/sys/fs/cgroup{LIMITED}")
    limit.mkdir()
    try:
        name = "memory.max" if cgroups.is_unified() else "memory.limit_in_bytes"
        if not cgroups.is_unified():
            (limit / "memory.use_hierarchy").write_text("1")
        (limit / name).write_text(str(24 << 20))
        ran = run("head -c 200m /dev/zero | tail", cgroup_parent=LIMITED)
        whole = run(["/bin/busybox", "sh", "-c", "exec tail < /dev/zero"], cgroup_parent=LIMITED)
        assert ran.status != 0
        assert (whole.status, whole.out_of_memory) == (137, True)
    finally:
        cgroups.remove(LIMITED)
    killed = run("sh -c 'kill -9 $$'; exit $?")
    assert (killed.status, killed.out_of_memory) == (137, False)


def test_a_runtime_that_is_not_installed(tmp_path: Path, tree: Path) -> None:
    runtime = Runtime(tmp_path / "state", "/usr/bin/no-such-runtime")
    with pytest.raises(Unsupported, match="/usr/bin/no-such-runtime is not a program"), Scope() as scope:
        runtime.run(ProcessSpec(tree, ("/bin/true",)), output=lambda *_: None, scope=scope)


def test_a_step_costs_little_beside_its_runtime(runtime: Runtime, tree: Path) -> None:
    # Own processor time, which does not depend on what else the machine does; 1.5 ms where this was written.
    spec, spent = ProcessSpec(tree, ("/bin/true",)), []
    with Scope() as scope:
        for _ in range(10):
            start = time.process_time()
            runtime.run(spec, output=lambda *_: None, scope=scope)
            spent.append(time.process_time() - start)
    assert min(spent) < 0.006


def test_crun_is_given_a_compiled_filter(tmp_path: Path, tree: Path) -> None:
    state = tmp_path / "state"
    with Scope() as scope:
        Runtime(state, "crun").run(ProcessSpec(tree, ("/bin/true",)), output=lambda *_: None, scope=scope)
    (program,) = (state / "seccomp").iterdir()
    assert program.stat().st_size > 1000
