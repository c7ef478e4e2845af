"""Containers in the lesser profiles: what `knarr run` can do there, and what it refuses by name."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]


def test_a_user_runs_enters_stops_and_removes_containers(place: MakePlace) -> None:
    there = place("user")
    done = there.knarr("run", "--rm", "-q", "busybox", "sh", "-c", "id -u; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "0\n", "err\n")
    assert there.knarr("run", "-d", "--name", "one", "busybox", "sleep", "100").returncode == 0
    assert "Up" in there.knarr("ps").stdout
    assert there.knarr("exec", "one", "sh", "-c", "echo in; exit 3").returncode == 3
    assert there.knarr("exec", "-u", "7:8", "one", "id", "-u").stdout == "7\n"
    assert there.knarr("stop", "-t", "0", "one").returncode == 0
    assert there.knarr("wait", "one").stdout == "137\n"
    assert there.knarr("rm", "one").returncode == 0
    assert there.knarr("ps", "-aq").stdout == ""


def test_a_user_runs_a_foreign_platform(place: MakePlace) -> None:
    there = place("user")
    done = there.knarr("run", "--rm", "-q", "--platform", "linux/arm64", "busybox", "uname", "-m")
    assert (done.returncode, done.stdout) == (0, "aarch64\n"), done.stderr


def test_files_of_many_owners_go_with_the_container(place: MakePlace) -> None:
    there = place("user")
    script = "mkdir /d && touch /d/f && chown -R 1234:5678 /d && chmod 700 /d"
    assert there.knarr("run", "--name", "kept", "-q", "-v", "v:/v", "busybox", "sh", "-c", script).returncode == 0
    assert there.knarr("rm", "-v", "kept").returncode == 0
    assert [path.name for path in (there.state / "containers").iterdir()] == ["names"]


def test_a_user_s_container_ends_with_its_monitor(place: MakePlace) -> None:
    there = place("user")
    id = there.knarr("run", "-d", "-q", "--name", "lost", "busybox", "sleep", "100").stdout.strip()
    found = subprocess.run(["pgrep", "-f", f"knarr.containers.monitor.*{id}"], capture_output=True, text=True)
    pids = sorted(map(int, found.stdout.split()))
    os.kill(pids[0], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while "Exited (255)" not in there.knarr("ps", "-a").stdout and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "Exited (255)" in there.knarr("ps", "-a").stdout
    left = subprocess.run(["pgrep", "-u", str(there.uid + 0), "-f", "sleep 100"], capture_output=True, text=True)
    assert left.stdout == ""
    assert there.knarr("rm", "lost").returncode == 0


def test_a_user_cannot_publish_ports(place: MakePlace) -> None:
    done = place("user").knarr("run", "--rm", "-q", "-p", "8080:80", "busybox", "true")
    assert (done.returncode, "publishes no ports" in done.stderr) == (125, True)


@pytest.mark.parametrize("profile", ["single", "container", "restricted"])
def test_the_lesser_profiles_run_containers_as_far_as_they_can(place: MakePlace, profile: str) -> None:
    there = place(profile)
    done = there.knarr("run", "--rm", "-q", "busybox", "sh", "-c", "echo out; echo err >&2; exit 5")
    assert (done.returncode, done.stdout, done.stderr) == (5, "out\n", "err\n")
    assert there.knarr("run", "-q", "--rm", "busybox", "nothing").returncode == 127
    assert there.knarr("run", "-q", "--name", "kept", "busybox", "sh", "-c", "echo mine > /mine").returncode == 0
    assert there.knarr("start", "-a", "kept").returncode == 0
    assert there.knarr("rm", "kept").returncode == 0


@pytest.mark.parametrize("profile", ["container", "restricted"])
def test_what_needs_mounts_is_refused_where_there_are_none(place: MakePlace, profile: str) -> None:
    done = place(profile).knarr("run", "--rm", "-q", "-v", "v:/v", "busybox", "true")
    assert (done.returncode, "containers cannot have directories and volumes" in done.stderr) == (125, True)
