"""A plain user with ids of its own: what it finds, what a step sees, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.profiles import places

pytestmark = [pytest.mark.root, pytest.mark.system]

MakePlace = Callable[..., places.Place]


def context(place: places.Place, text: str) -> str:
    directory = place.home / "context"
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(text)
    return str(directory)


def test_a_build_says_which_profile_it_has(place: MakePlace) -> None:
    there = place("user")
    done = there.knarr("build", "--progress=plain", context(there, "FROM busybox\nRUN true\n"))
    assert done.returncode == 0, done.stderr
    assert "profile user: a user namespace with 65537 ids" in done.stderr


def test_a_step_is_root_of_its_own_files_and_not_of_the_machine(place: MakePlace) -> None:
    there = place("user")
    text = """\
        FROM busybox
        RUN id -u && ! echo 1 > /proc/sys/kernel/hostname && ! mknod /dev/disk b 8 0 && ! cat /dev/kmsg
        RUN ! mount -t tmpfs none /tmp && test $(ls -d /proc/[0-9]* | wc -l) -lt 9
        RUN grep -q '^CapEff:.*00000000a80425fb' /proc/self/status && grep -q '^Seccomp:.*2' /proc/self/status
    """
    done = there.knarr("build", "--progress=plain", context(there, text))
    assert done.returncode == 0, done.stderr


def test_a_warm_build_of_a_user_enters_no_namespace(place: MakePlace) -> None:
    there = place("user")
    directory = context(there, "FROM busybox\nRUN true\n")
    os.utime(Path(directory, "Dockerfile"), (1_600_000_000, 1_600_000_000))
    for _ in range(2):
        assert there.knarr("build", "--progress=plain", directory).returncode == 0
    done = there.knarr("build", "--progress=plain", directory)
    assert done.returncode == 0
    assert "profile user" not in done.stderr


def test_the_profile_that_is_asked_for_is_taken_or_refused(place: MakePlace) -> None:
    there = place("user")
    wrong = there.knarr("build", context(there, "FROM busybox\n"), KNARR_PROFILE="nobody")
    assert (wrong.returncode, "KNARR_PROFILE=nobody: not known" in wrong.stderr) == (2, True)
    root = there.knarr("build", context(there, "FROM busybox\n"), KNARR_PROFILE="root")
    assert (root.returncode, f"profile root: this is uid {places.UID}" in root.stderr) == (1, True)


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_a_killed_build_leaves_nothing_mounted_and_the_next_ends_its_processes(place: MakePlace, runtime: str) -> None:
    there = place("user", extra={"KNARR_OCI_RUNTIME": runtime})
    text = "FROM busybox\nRUN echo a:x:7:7::/:/bin/sh >> /etc/passwd\nUSER a\nRUN echo up && sleep 7531\n"
    running = there.start("build", "--progress=plain", context(there, text))
    assert running.stdout is not None
    for line in running.stdout:
        if line.rstrip().endswith(" up"):
            break
    running.send_signal(signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert str(there.state) not in Path("/proc/self/mountinfo").read_text()
    done = there.knarr("build", "--progress=plain", context(there, "FROM busybox\nRUN true\n"))
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 10
    while (left := sleepers()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    assert list(there.state.glob("run/bundles/*/*")) == []
    assert list(there.state.glob("run/mnt/*")) == []


def sleepers() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"sleep\x007531" in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_three_hundred_layers_are_a_tree(place: MakePlace) -> None:
    there = place("user")
    text = "FROM busybox\n" + "".join(f"COPY Dockerfile /layer-{number}\n" for number in range(300))
    done = there.knarr("build", "--progress=plain", context(there, text + "RUN ls -d /layer-* | wc -l\n"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert " 300\n" in done.stderr
