"""Containers that run: what is inside of them, and what is left when they have ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.containers.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]


@pytest.fixture(autouse=True)
def nothing_left(knarr: Knarr) -> Iterator[None]:
    """A test that fails leaves its containers to nobody."""
    yield
    left = knarr("ps", "-aq").stdout.split()
    if left:
        knarr("rm", "--force", "--volumes", *left)


def wait_until(holds: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_output_and_status_are_the_command_s(knarr: Knarr, app: str) -> None:
    done = knarr("run", "--rm", app, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_an_image_that_is_not_here_is_pulled_and_then_listed(knarr: Knarr) -> None:
    assert knarr("run", "--rm", "-q", "busybox", "echo", "hi").stdout == "hi\n"
    assert "busybox" in knarr("images").stdout


def test_the_image_says_what_the_command_line_does_not(knarr: Knarr, app: str) -> None:
    done = knarr("run", "--rm", "--hostname", "box", app, "sh", "-c", "echo $GREETING $(pwd) $(hostname) $HOSTNAME; id")
    assert done.stdout.splitlines() == ["hello /www box box", "uid=0(root) gid=0(root) groups=0(root)"]


def test_users_are_the_image_s(knarr: Knarr, app: str) -> None:
    done = knarr(
        "run",
        "--rm",
        "-u",
        "web",
        "-e",
        "GREETING=bye",
        "-w",
        "/tmp/new",
        app,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $GREETING $HOME",
    )
    assert done.stdout.split() == ["1000", "1001", "/tmp/new", "bye", "/www"]


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["nothing"], 127, "nothing"),
        (["/no/where"], 127, "/no/where"),
        (["/plain"], 126, "permission denied"),
        (["/etc"], 126, ""),
    ],
    ids=lambda value: str(value),
)
def test_a_command_that_cannot_run_says_why_by_its_status(
    knarr: Knarr, app: str, command: list[str], status: int, words: str
) -> None:
    done = knarr("run", "--rm", app, *command)
    assert done.returncode == status, done.stderr
    assert words in done.stderr.lower()
    assert knarr("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("words", "fact"),
    [
        (["--nmae", "x", "app"], "did you mean --name?"),
        (["--restart", "always", "app"], "--restart is not supported"),
        (["-u", "nobody", "app"], "user nobody: not in the image's /etc/passwd"),
        (["absent.example/x:1"], "absent.example"),
        (["--pull", "never", "absent"], "absent is not in the store"),
        (["--network", "nowhere", "app"], "there is no network nowhere"),
        (["--network", "host", "-p", "80", "app"], "publishes no ports"),
        (["-v", "relative", "app"], "absolute path"),
        (["-v", "/x:/", "app"], "root itself"),
        (["-v", "a b:/x", "app"], "cannot be the name of a volume"),
        (["--mount", "type=bind,src=/not/there,dst=/x", "app"], "/not/there is not on this machine"),
        (["--name", "../x", "app"], "cannot be the name"),
        (["--cap-add", "NET_ADMN", "app"], "did you mean CAP_NET_ADMIN?"),
        (["--platform", "linux/s390y", "app"], "s390y"),
        (["-p", "99999:80", "app"], "'99999' is no port"),
        (["--detach-keys", "ctrl-1", "-i", "app"], "is no key"),
        (["-t", "app"], "not a terminal"),
        ([], "needs an image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_refused_with_125_and_leaves_nothing(
    knarr: Knarr, app: str, words: list[str], fact: str
) -> None:
    done = knarr("run", "--rm", *words)
    assert done.returncode == 125, done.stderr
    assert fact in done.stderr
    assert "Traceback" not in done.stderr
    assert knarr("ps", "-aq").stdout == ""


def test_standard_input_is_passed_on_to_its_end(knarr: Knarr, app: str) -> None:
    text = "line\n" * 100_000
    done = knarr("run", "-i", "--rm", app, "wc", "-c", input=text)
    assert (done.stdout.strip(), done.returncode) == (str(len(text)), 0)


def test_without_interactive_standard_input_is_empty(knarr: Knarr, app: str) -> None:
    assert knarr("run", "--rm", app, "cat", input="secret").stdout == ""


def test_much_output_arrives_whole(knarr: Knarr, app: str) -> None:
    done = knarr("run", "--rm", app, "sh", "-c", "yes 0123456789 | head -c 5000000")
    assert len(done.stdout) == 5_000_000


def test_a_foreign_platform_runs_by_emulation(knarr: Knarr, app: str) -> None:
    done = knarr("run", "--rm", "--platform", "linux/arm64", app, "sh", "-c", "uname -m; cat index.html")
    assert done.stdout.split() == ["aarch64", "aarch64"]


def test_a_server_is_reached_by_its_published_port_until_it_is_stopped(knarr: Knarr, app: str) -> None:
    port = free_port()
    assert knarr("run", "-d", "--name", "web", "-p", f"{port}:80", app).returncode == 0
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    assert wait_until(answers)
    assert answers() == b"x86_64\n"
    taken = knarr("run", "--rm", "-p", f"{port}:80", app)
    assert (taken.returncode, "cannot be published" in taken.stderr) == (125, True)
    line = json.loads(knarr("ps", "--format", "json").stdout)
    assert (line["Names"], line["State"], line["Ports"]) == ("web", "running", f"0.0.0.0:{port}->80/tcp")
    assert knarr("stop", "-t", "5", "web").stdout == "web\n"
    assert answers() == b""
    assert "Exited" in knarr("ps", "-a").stdout
    assert knarr("rm", "web").returncode == 0


def test_a_further_process_runs_in_the_container(knarr: Knarr, app: str) -> None:
    knarr("run", "-d", "--name", "one", "-e", "A=1", app, "sleep", "100")
    done = knarr("exec", "-u", "web", "-e", "B=2", "-w", "/", "one", "sh", "-c", "id -u; echo $A$B; pwd; exit 9")
    assert (done.stdout.split(), done.returncode) == (["1000", "12", "/"], 9)
    assert knarr("exec", "-i", "one", "cat", input="through").stdout == "through"
    absent = knarr("exec", "one", "nothing")
    assert absent.returncode == 127, absent.stderr
    assert knarr("exec", "one", "/plain").returncode == 126
    assert knarr("exec", "-d", "one", "touch", "/made").returncode == 0
    assert wait_until(lambda: knarr("exec", "one", "ls", "/made").returncode == 0)
    knarr("rm", "-f", "one")
    gone = knarr("exec", "one", "true")
    assert (gone.returncode, "there is no container one" in gone.stderr) == (125, True)


def test_files_outlive_a_stop_and_go_with_the_container(knarr: Knarr, app: str, root: Path) -> None:
    knarr("run", "--name", "kept", app, "sh", "-c", "echo mine > /mine")
    again = knarr("start", "-a", "kept")
    assert (again.returncode, again.stdout) == (0, "")
    assert knarr("run", "--rm", app, "ls", "/mine").returncode == 1
    assert knarr("rm", "kept").stdout == "kept\n"
    assert [path.name for path in (root / "containers").iterdir()] == ["names"]


def test_a_name_is_taken_once(knarr: Knarr, app: str) -> None:
    first = knarr("create", "--name", "mine", app).stdout.strip()
    second = knarr("create", "--name", "mine", app)
    assert (second.returncode, f"taken by container {first[:12]}" in second.stderr) == (125, True)
    assert (
        knarr("ps", "-a", "--filter", "name=mine", "--format", "{{.ID}} {{.State}}").stdout == f"{first[:12]} created\n"
    )
    assert knarr("rm", first[:6]).returncode == 0
    assert knarr("run", "--rm", "--name", "mine", app, "true").returncode == 0


def test_an_image_s_volume_begins_with_what_it_has_there(knarr: Knarr, app: str, root: Path) -> None:
    (root / "volumes").mkdir(exist_ok=True)
    before = set(os.listdir(root / "volumes"))
    done = knarr("run", "--rm", app, "sh", "-c", "cat /data/file; stat -c %u:%g /data")
    assert done.stdout.split() == ["first", "1000:1001"]
    assert set(os.listdir(root / "volumes")) == before


def test_a_named_volume_is_shared_and_stays(knarr: Knarr, app: str) -> None:
    knarr("run", "--rm", "-v", "shared:/data", app, "sh", "-c", "echo more >> /data/file")
    assert knarr("run", "--rm", "-v", "shared:/x:ro", app, "cat", "/x/file").stdout.split() == ["first", "more"]
    assert knarr("run", "--rm", "-v", "shared:/x:ro", app, "touch", "/x/new").returncode == 1


def test_a_directory_is_shown_and_the_rest_of_the_machine_is_not(knarr: Knarr, app: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    os.symlink("/etc/shadow", tmp_path / "link")
    done = knarr(
        "run", "--rm", "-v", f"{tmp_path}:/x", app, "sh", "-c", "cat /x/file; cat /x/link; echo there > /x/back"
    )
    assert (done.stdout, (tmp_path / "back").read_text()) == ("here", "there\n")
    assert "No such file" in done.stderr


def test_rights_are_what_was_asked_for(knarr: Knarr, app: str) -> None:
    command = ["sh", "-c", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status | awk '{print $2}'; ulimit -n"]
    usual = knarr("run", "--rm", app, *command).stdout.split()
    assert usual[:3] == ["00000000a80425fb", "0", "2"]
    options = ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--security-opt", "no-new-privileges"]
    changed = knarr(
        "run", "--rm", *options, "--security-opt", "seccomp=unconfined", "--ulimit", "nofile=77", app, *command
    )
    assert changed.stdout.split() == ["0000000000000001", "1", "0", "77"]


def test_a_read_only_container_writes_to_its_tmpfs_alone(knarr: Knarr, app: str) -> None:
    script = "touch /x; touch /t/x && echo ok; df -m /t /dev/shm | awk 'NR>1{print $2}'"
    done = knarr("run", "--rm", "--read-only", "--tmpfs", "/t:size=3m", "--shm-size", "5m", app, "sh", "-c", script)
    assert done.stdout.split() == ["ok", "3", "5"], done.stderr
    assert "Read-only file system" in done.stderr


def test_a_tmpfs_is_for_data_unless_it_is_said_to_be_for_programs(knarr: Knarr, app: str) -> None:
    script = "for d in /data /programs; do cp /bin/busybox $d/echo; $d/echo $d; done; grep ' /data ' /proc/mounts"
    done = knarr("run", "--rm", "--tmpfs", "/data", "--tmpfs", "/programs:exec", app, "sh", "-c", script)
    said = done.stdout.splitlines()
    assert said[0] == "/programs"
    assert {"nosuid", "nodev", "noexec"} <= set(said[1].split()[3].split(","))
    assert "Permission denied" in done.stderr


def test_an_init_passes_signals_on(knarr: Knarr, app: str) -> None:
    knarr("run", "-d", "--init", "--stop-signal", "TERM", "--name", "init", app, "sleep", "100")
    assert "docker-init" in knarr("exec", "init", "cat", "/proc/1/cmdline").stdout
    began = time.monotonic()
    knarr("stop", "init")
    assert time.monotonic() - began < 8  # it did not have to be killed
    assert knarr("wait", "init").stdout == "143\n"
    knarr("rm", "init")


def test_names_and_servers_are_those_that_were_given(knarr: Knarr, app: str) -> None:
    done = knarr(
        *("run", "--rm", "--add-host", "db:192.0.2.7", "--dns", "192.0.2.53", "--dns-search", "corp.example", app),
        *("cat", "/etc/hosts", "/etc/resolv.conf"),
    )
    assert "192.0.2.7\tdb" in done.stdout
    assert "nameserver 192.0.2.53\nsearch corp.example" in done.stdout


def test_logs_have_both_streams_with_times(knarr: Knarr, app: str) -> None:
    knarr(
        "run", "-d", "--name", "talk", app, "sh", "-c", "echo one; echo two >&2; printf three; sleep 0.3; echo ' four'"
    )
    assert knarr("wait", "talk").stdout == "0\n"
    done = knarr("logs", "talk")
    assert (done.stdout, done.stderr) == ("one\nthree four\n", "two\n")
    timed = knarr("logs", "-t", "--tail", "2", "talk").stdout
    assert timed.endswith("Z three four\n")
    assert timed.startswith("20")
    assert knarr("logs", "--since", "1h", "--until", "1s", "talk").returncode == 0
    knarr("rm", "talk")


def test_logs_are_followed_until_the_container_ends(knarr: Knarr, app: str) -> None:
    knarr("run", "-d", "--name", "long", app, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert knarr("logs", "--follow", "long").stdout == "1\n2\n3\n"
    knarr("rm", "-f", "long")


def monitor_of(id: str) -> int:
    found = subprocess.run(["pgrep", "-o", "-f", f"knarr.containers.monitor.*{id}"], capture_output=True, text=True)
    return int(found.stdout)


def test_a_container_ends_with_its_monitor_and_nothing_is_left(knarr: Knarr, app: str, root: Path) -> None:
    id = knarr("run", "-d", "--name", "lost", "-p", str(free_port()) + ":80", app).stdout.strip()
    pid = json.loads((root / "containers" / id / "state.json").read_text())["pid"]
    os.kill(monitor_of(id), signal.SIGKILL)
    assert wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert wait_until(lambda: "Exited (255)" in knarr("ps", "-a").stdout)
    assert knarr("exec", "lost", "true").returncode == 125
    assert knarr("start", "lost").returncode == 0
    assert "Up" in knarr("ps").stdout
    assert knarr("rm", "--force", "-v", "lost").returncode == 0
    assert list(root.glob("run/bundles/*/*")) == []
    assert list(root.glob("run/networks/*/knarr-*")) == []
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(root) not in mounts
    rules = subprocess.run(["iptables", "-t", "nat", "-S"], capture_output=True, text=True, check=True).stdout
    assert id[:12] not in rules


def test_a_reboot_is_told_from_a_container_that_runs(knarr: Knarr, app: str, root: Path) -> None:
    id = knarr("create", "--name", "old", app).stdout.strip()
    state = {"status": "running", "pid": 1, "started_ns": 1}
    (root / "containers" / id / "state.json").write_text(json.dumps(state))
    assert knarr("ps", "-q").stdout == ""
    assert "Exited (255)" in knarr("ps", "-a").stdout
    knarr("rm", "old")


def test_signals_are_passed_on(environment: dict[str, str], knarr: Knarr, app: str) -> None:
    words = ["run", "--rm", app, "sh", "-c", "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done"]
    with subprocess.Popen([sys.executable, "-m", "knarr", *words], env=environment, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.terminate()
        assert running.stdout.read() == b"caught\n"
        assert running.wait(10) == 3


def test_prune_keeps_what_a_container_stands_on(knarr: Knarr, app: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo there > /file\n")
    assert knarr("build", "-q", "-t", "doomed", str(tmp_path)).returncode == 0
    knarr("create", "--name", "held", "doomed", "cat", "/file")
    assert knarr("rmi", "doomed").returncode == 0
    assert knarr("prune", "--all", "--force").returncode == 0
    done = knarr("start", "-a", "held")
    assert (done.stdout, done.returncode) == ("there\n", 0), done.stderr
    knarr("rm", "-v", "held")


def test_two_commands_at_once_leave_one_truth(environment: dict[str, str], knarr: Knarr) -> None:
    knarr("run", "-d", "--name", "both", "busybox", "sleep", "100")
    words = [sys.executable, "-m", "knarr", "rm", "-f", "both"]
    running = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    ended = [one.communicate(timeout=30)[1] + str(one.returncode).encode() for one in running]
    assert [end for end in ended if b"Traceback" in end or b"70" in end] == []
    assert knarr("ps", "-aq").stdout == ""


def test_a_container_has_no_more_than_its_limits(knarr: Knarr, app: str) -> None:
    many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
    done = knarr("run", "--rm", "--pids-limit", "5", app, "sh", "-c", many)
    assert "can't fork" in done.stderr
    killed = knarr("run", "--name", "big", "-m", "16m", "--memory-swap", "16m", app, "sh", "-c", "cat /dev/zero | tail")
    assert killed.returncode != 0
    assert json.loads(knarr("inspect", "big").stdout)[0]["State"]["OOMKilled"] is True
    wrong = knarr("run", "--rm", "--cpus", "none", app)
    assert (wrong.returncode, "not a number of processors" in wrong.stderr) == (125, True)


def test_a_user_file_may_be_anything(knarr: Knarr, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN mkdir -p /etc /d"
        " && printf 'x:y\\n::::\\nroot:x:99999999999:0::/\\nweb:x:7:8::/h:/s:more\\n' > /etc/passwd"
        " && ln -s /etc/../../../../etc/passwd /d/link && rm -f /etc/group && mkfifo /etc/group\n"
    )
    assert knarr("build", "-q", "-t", "hostile", str(tmp_path)).returncode == 0
    assert knarr("run", "--rm", "-u", "web", "hostile", "id", "-u").returncode in (0, 125)
    done = knarr("run", "--rm", "-u", "7:web", "hostile", "id", "-u")
    assert (done.returncode, "Traceback" in done.stderr) == (125, False)


def test_mounts_stay_in_the_container_whatever_its_links_say(knarr: Knarr, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (tmp_path / "context").mkdir()
    (tmp_path / "context/Dockerfile").write_text(
        f"FROM busybox\nRUN ln -s {outside} /link && ln -s ../../../../.. /up\n"
    )
    assert knarr("build", "-q", "-t", "links", str(tmp_path / "context")).returncode == 0
    done = knarr(
        "run", "--rm", "-v", "linked:/link/x", "--tmpfs", "/up/y", "links", "sh", "-c", "touch /link/x/f /y/f; ls /y"
    )
    assert (done.returncode, done.stdout) == (0, "f\n"), done.stderr
    assert not outside.exists()


def test_a_closed_standard_input_is_an_empty_one(environment: dict[str, str], app: str) -> None:
    words = [sys.executable, "-m", "knarr", "run", "-i", "--rm", app, "cat"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *words], env=environment, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_reader_that_goes_away_ends_the_command_quietly(environment: dict[str, str], app: str) -> None:
    words = [sys.executable, "-m", "knarr", "run", "--rm", app, "yes"]
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", *words], env=environment, capture_output=True, timeout=30
    )
    assert (done.stdout, done.stderr) == (b"y\n", b"")


def test_a_full_disk_costs_lines_of_the_log_and_not_the_container(
    environment: dict[str, str], knarr: Knarr, app: str, root: Path
) -> None:
    script = "sleep 1; for i in $(seq 3000); do echo 0123456789012345678901234567890123456789; done; sleep 1; echo end"
    id = knarr("create", "--name", "full", app, "sh", "-c", script).stdout.strip()
    log = root / "containers" / id / "log"
    os.symlink("/dev/full", log)
    done = knarr("start", "-a", "full")
    assert (done.returncode, done.stdout.count("0123456789\n"), done.stdout[-4:]) == (0, 3000, "end\n")


def test_files_are_copied_in_and_out_whether_it_runs_or_not(knarr: Knarr, app: str, tmp_path: Path) -> None:
    (tmp_path / "in/below").mkdir(parents=True)
    (tmp_path / "in/below/file").write_text("here")
    os.symlink("/etc/passwd", tmp_path / "in/link")
    for words in (["create"], ["run", "-d"]):
        knarr(*words, "--name", "cp", app, "sleep", "100")
        assert knarr("cp", str(tmp_path / "in"), "cp:/tmp2").returncode == 0
        assert knarr("cp", str(tmp_path / "in/below/file"), "cp:/tmp2/below/other").returncode == 0
        out = tmp_path / "-".join(words)
        assert knarr("cp", "cp:/tmp2", str(out)).returncode == 0
        assert (out / "below/other").read_text() == "here"
        assert os.readlink(out / "link") == "/etc/passwd"
        assert knarr("cp", "cp:/tmp2/.", str(out)).returncode == 0
        assert not (out / "tmp2").exists()
        absent = knarr("cp", "cp:/absent", str(out))
        assert (absent.returncode, "/absent: there is no such file" in absent.stderr) == (1, True)
        assert knarr("cp", str(tmp_path / "not"), "cp:/").returncode == 1
        knarr("rm", "-f", "-v", "cp")


def test_no_link_in_a_container_leads_a_copy_out_of_it(knarr: Knarr, app: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    outside = tmp_path / "outside"
    outside.mkdir()
    script = f"ln -s {outside} /link; ln -s ../../../../../..{outside} /up; mkdir -p {outside}; sleep 100"
    knarr("run", "-d", "--name", "cp", app, "sh", "-c", script)
    assert wait_until(lambda: knarr("exec", "cp", "ls", str(outside)).returncode == 0)
    for target in ("/link/file", "/up/file"):
        assert knarr("cp", str(tmp_path / "file"), f"cp:{target}").returncode == 0
    assert list(outside.iterdir()) == []
    assert knarr("exec", "cp", "cat", f"{outside}/file").stdout == "mine"


def test_volumes_are_listed_and_go_when_nobody_has_them(knarr: Knarr, app: str) -> None:
    assert knarr("volume", "create", "made").stdout == "made\n"
    knarr("create", "--name", "user", "-v", "made:/x", app)
    assert ["made", "user"] in [line.split() for line in knarr("volume", "ls").stdout.splitlines()]
    used = knarr("volume", "rm", "made")
    assert (used.returncode, "in use by user" in used.stderr) == (2, True)
    knarr("rm", "-v", "user")
    assert knarr("volume", "inspect", "made").returncode == 0
    assert knarr("volume", "rm", "made").stdout == "made\n"
    assert knarr("volume", "rm", "made").returncode == 1
    assert knarr("volume", "prune").returncode == 0


def test_the_machine_is_met_by_its_name(knarr: Knarr, app: str) -> None:
    done = knarr("run", "--rm", "--add-host", "me:host-gateway", app, "cat", "/etc/hosts")
    assert "10.177.0.1\tme" in done.stdout
    done = knarr("run", "--rm", "--network", "host", "--add-host", "me:host-gateway", app, "cat", "/etc/hosts")
    assert "127.0.0.1\tme" in done.stdout


def test_a_reboot_that_costs_the_image_s_files_costs_nothing_of_the_container(
    knarr: Knarr, app: str, root: Path
) -> None:
    knarr("run", "--name", "again", app, "sh", "-c", "echo x >> /x; cat /x index.html")
    shutil.rmtree(root / "snapshots")
    done = knarr("start", "-a", "again")
    assert (done.stdout, done.returncode) == ("x\nx\nx86_64\n", 0), done.stderr
    knarr("rm", "-v", "again")
