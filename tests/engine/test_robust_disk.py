"""A full disk: one message with a way out, a sound store, and all is well once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.system]

Knarr = Any  # tests/engine/conftest.py

NOISE = "head -c {} /dev/urandom"
ROOM = "200m"


class Disk:
    """The state directory on a tmpfs of its own, in a mount namespace that only the command enters."""

    def __init__(self, knarr: Knarr, holder: int) -> None:
        self.root: Path = knarr.root
        self.inside = ["nsenter", "-m", "-t", str(holder), "--"]

    def resize(self, size: str) -> None:
        self.run("mount", "-o", f"remount,size={size}", str(self.root))

    def run(self, *command: str) -> None:
        subprocess.run([*self.inside, *command], check=True)

    def list(self, place: str) -> list[str]:
        found = subprocess.run([*self.inside, "find", self.root / place], capture_output=True, text=True)
        return found.stdout.splitlines()[1:]


@pytest.fixture
def disk(knarr: Knarr) -> Iterator[Disk]:
    knarr.root.mkdir()
    script = f"mount -t tmpfs -o size={ROOM} knarr-test {knarr.root} && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        made = Disk(knarr, holder.pid)
        knarr.prefix = made.inside
        yield made
        holder.kill()


def fails_for_want_of_room(knarr: Knarr, *argv: str) -> str:
    done = knarr.run(*argv, check=False)
    shown: str = done.stderr
    assert done.returncode == 1, shown
    assert "Traceback" not in shown
    assert shown.count("error: ") == 1
    assert "no space left" in shown.lower(), shown
    assert "hint: " in shown
    assert "knarr prune" in shown
    return shown


def is_sound(knarr: Knarr, disk: Disk) -> None:
    found = knarr.run("doctor", "--store", check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    for place in ("content/ingest", "run/bundles", "run/mnt", "run/engines", "run/owners", "flights"):
        assert disk.list(place) == []


Overflow = Callable[[Knarr], list[str]]


def pull(knarr: Knarr) -> list[str]:
    return knarr.command("FROM busybox\nRUN echo x > /x\n")  # type: ignore[no-any-return]


def run(knarr: Knarr) -> list[str]:
    return knarr.command(f"FROM busybox\nRUN {NOISE.format(20_000_000)} > /big\n")  # type: ignore[no-any-return]


def copy(knarr: Knarr) -> list[str]:
    (knarr.work / "context").mkdir(exist_ok=True)
    (knarr.work / "context/big").write_bytes(os.urandom(20_000_000))
    return knarr.command("FROM busybox\nCOPY big /\nRUN cat /big > /dev/null\n")  # type: ignore[no-any-return]


def copy_straight(knarr: Knarr) -> list[str]:
    (knarr.work / "context").mkdir(exist_ok=True)
    (knarr.work / "context/big").write_bytes(os.urandom(20_000_000))
    return knarr.command("FROM busybox\nCOPY big /\n")  # type: ignore[no-any-return]


def pack(knarr: Knarr) -> list[str]:
    return knarr.command(f"FROM busybox\nRUN {NOISE.format(6_000_000)} > /big\n")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("overflow", "size"),
    [
        (pull, "200k"),  # not even the databases have room
        (pull, "900k"),  # not the layer's blob
        (pull, "2500k"),  # the blob, but not its tree
        (run, "10m"),
        (copy, "10m"),
        (copy_straight, "10m"),
        (pack, "12m"),  # the tree, but not its layer
    ],
)
def test_a_build_on_a_disk_that_is_too_small(knarr: Knarr, disk: Disk, overflow: Overflow, size: str) -> None:
    disk.resize(size)
    command = overflow(knarr)
    shown = fails_for_want_of_room(knarr, *command)
    assert overflow is pull or "Dockerfile.test:2\n" in shown or overflow is pack

    disk.resize(ROOM)
    if size == "200k":  # too full to note that all was cleaned up
        knarr.run("doctor", "--store", "--repair")
    is_sound(knarr, disk)
    knarr.run(*command)
    is_sound(knarr, disk)


def test_a_disk_that_is_full_from_the_start(knarr: Knarr, disk: Disk) -> None:
    knarr.build("FROM busybox\nRUN echo before > /before\n")
    disk.run("sh", "-c", f"cat /dev/zero > {disk.root}/junk || true")
    fails_for_want_of_room(knarr, *knarr.command("FROM busybox\nRUN echo x > /x\n"))
    disk.run("rm", f"{disk.root}/junk")
    assert knarr.build("FROM busybox\nRUN echo x > /x\n").contents["x"] == b"x\n"
    is_sound(knarr, disk)


def test_nothing_is_wrong_with_a_warm_build_on_a_full_disk(knarr: Knarr, disk: Disk) -> None:
    command = knarr.command("FROM busybox\nRUN echo before > /before\n")
    knarr.run(*command)
    disk.run("sh", "-c", f"cat /dev/zero > {disk.root}/junk || true")
    knarr.run(*command)


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local"])
def test_a_result_that_has_no_room(knarr: Knarr, disk: Disk, kind: str) -> None:
    small = knarr.work / "small"
    small.mkdir()
    disk.run("mount", "-t", "tmpfs", "-o", "size=1m", "small", str(small))
    command = knarr.command(
        f"FROM busybox\nRUN {NOISE.format(3_000_000)} > /big\n", "-o", f"type={kind},dest={small}/out"
    )
    done = knarr.run(*command, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert f"{small}/out" in done.stderr
    assert "Traceback" not in done.stderr
    if kind != "local":
        listed = subprocess.run([*disk.inside, "ls", "-A", small], capture_output=True, text=True, check=True)
        assert listed.stdout == "", "a half archive is worse than none"
    disk.run("mount", "-o", f"remount,size={ROOM}", str(small))
    knarr.run(*command)
    is_sound(knarr, disk)


def test_pull_and_load_on_a_full_disk(knarr: Knarr, disk: Disk, bases: Any) -> None:
    archive = knarr.work / "busybox.tar"
    knarr.env["KNARR_ROOT"] = str(knarr.work / "elsewhere")
    knarr.run(*knarr.command("FROM busybox\n"), "-o", f"type=docker,name=loaded:1,dest={archive}")
    knarr.env["KNARR_ROOT"] = str(knarr.root)
    disk.resize("700k")
    fails_for_want_of_room(knarr, "pull", "busybox")
    fails_for_want_of_room(knarr, "load", "-i", str(archive))
    disk.resize(ROOM)
    is_sound(knarr, disk)
    knarr.run("pull", "busybox")
    knarr.run("load", "-i", str(archive))
    assert "loaded" in knarr.run("images").stdout


def test_out_of_inodes(knarr: Knarr, disk: Disk) -> None:
    disk.run("mount", "-o", "remount,nr_inodes=150", str(disk.root))
    fails_for_want_of_room(knarr, *knarr.command("FROM busybox\nRUN echo x > /x\n"))
    disk.run("mount", "-o", "remount,nr_inodes=100000", str(disk.root))
    is_sound(knarr, disk)
    assert knarr.build("FROM busybox\nRUN echo x > /x\n").contents["x"] == b"x\n"
    is_sound(knarr, disk)
