"""Steps for arm64 on another machine, by a private table of binary formats."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import Unsupported
from knarr.runtime.emulate import Emulator, runs_natively
from knarr.runtime.privatetable import Emulation
from knarr.runtime.runner import Runtime
from knarr.spec.platform import Platform, host_platform

pytestmark = [pytest.mark.root, pytest.mark.system]
ARM64 = Platform("linux", "arm64")
Run = Callable[..., Any]  # the fixture `run`


def host_formats() -> tuple[list[str], list[str]]:
    """Where the machine has binfmt_misc mounted, and what is in it."""
    mounts = [line for line in Path("/proc/1/mounts").read_text().splitlines() if "binfmt_misc" in line]
    return mounts, sorted(os.listdir("/proc/sys/fs/binfmt_misc"))


@pytest.fixture(autouse=True)
def host_is_left_alone() -> Iterator[None]:
    """binfmt_misc of the host is neither mounted nor changed, whatever a test does."""
    before = host_formats()
    yield
    assert host_formats() == before


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    emulator = Emulator(tmp_path / "table")
    yield emulator
    emulator.close()


def test_foreign_programs_start_foreign_programs(run: Run, arm64_tree: Path) -> None:
    ran = run(
        "busybox uname -m; sh -c 'uname -m; busybox sh -c \"busybox uname -m\"'", rootfs=arm64_tree, platform=ARM64
    )
    assert (ran.status, ran.out.split()) == (0, ["aarch64"] * 3)


@pytest.mark.parametrize("network", ["default", "none"])
def test_a_foreign_step_has_the_same_sandbox(run: Run, arm64_tree: Path, network: str) -> None:
    ran = run(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; stat -c %a /dev/shm /dev/null /dev/pts/ptmx;"
        "touch /sys/x /sys/fs/cgroup/x /proc/sys/x 2>/dev/null || echo read-only;"
        "mount -t tmpfs x /tmp || echo no-mount;"
        "ls /sys/fs/cgroup; cat /etc/hosts | head -n 1; ls /sys/class",
        rootfs=arm64_tree,
        platform=ARM64,
        network=network,
    )
    words = ran.out.split()
    assert words[:4] == ["CapEff:", "00000000a80425fb", "Seccomp:", "2"]
    assert words[4:7] == ["1777", "666", "666"]
    assert words[7:9] == ["read-only", "no-mount"]
    assert "net" in words


def test_owners_and_setuid_work_in_a_foreign_step(run: Run, arm64_tree: Path) -> None:
    # busybox gives up what setuid gave it but for a few applets; crontab reads a directory of root's alone.
    ran = run(
        "touch /tmp/a /tmp/b; chown 65534:4294967294 /tmp/a; chown app /tmp/b;"
        "mkdir -p /var/spool/cron/crontabs; chmod 700 /var/spool/cron; echo mine > /var/spool/cron/crontabs/app;"
        "mkdir /suid; cp /bin/busybox /suid/busybox; chmod 4755 /suid/busybox;"
        "su app -c 'id -u; busybox crontab -l 2>/dev/null || echo denied; /suid/busybox crontab -l'",
        rootfs=arm64_tree,
        platform=ARM64,
    )
    assert ran.out.split() == ["1000", "denied", "mine"]
    assert (arm64_tree / "tmp/a").stat().st_uid == 65534
    assert (arm64_tree / "tmp/a").stat().st_gid == 4294967294
    assert (arm64_tree / "tmp/b").stat().st_uid == 1000


def test_files_of_a_capability_are_as_if_set_by_root_itself(arm64_tree: Path, run: Run) -> None:
    # A user namespace would record its root's number (v3); for the identity map the kernel shows v2 again.
    v2 = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(arm64_tree / "bin/busybox", "security.capability", v2)
    assert run("cp /bin/busybox /tmp/copy", rootfs=arm64_tree, platform=ARM64).status == 0
    assert os.getxattr(arm64_tree / "bin/busybox", "security.capability") == v2


def test_mount_points_of_a_foreign_step_leave_no_trace(run: Run, arm64_tree: Path) -> None:
    before = sorted(os.listdir(arm64_tree))
    assert run("true", rootfs=arm64_tree, platform=ARM64).status == 0
    assert sorted(os.listdir(arm64_tree)) == before


def test_one_namespace_serves_all_steps_and_architectures(emulator: Emulator) -> None:
    first = emulator.emulation(ARM64)
    start = time.perf_counter()
    assert emulator.emulation(ARM64) is first
    assert time.perf_counter() - start < 0.001
    other = emulator.emulation(Platform("linux", "riscv64"))
    assert first is not None
    assert other is not None
    assert first.user_namespace == other.user_namespace
    assert first.uid_map == ((0, 4294967295),)


def test_nothing_is_left_when_an_emulator_is_closed(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path / "table")
    before = os.listdir("/proc/self/fd")
    found = emulator.emulation(ARM64)
    assert found is not None
    assert os.path.exists(found.user_namespace)
    emulator.close()
    assert os.listdir("/proc/self/fd") == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir(tmp_path / "table") == []


def test_what_runs_by_itself_is_not_emulated(emulator: Emulator) -> None:
    assert emulator.emulation(None) is None
    assert emulator.emulation(host_platform()) is None
    assert runs_natively("386") == (host_platform().architecture in ("amd64", "386"))


def test_a_handler_of_the_host_is_used(tmp_path: Path) -> None:
    (tmp_path / "qemu-aarch64").write_text(
        "enabled\ninterpreter /q\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n"
        "mask ffffffffffffff00fffffffffffffffffeffffff\n"
    )
    (tmp_path / "status").write_text("enabled\n")
    assert Emulator(tmp_path / "table", host_table=tmp_path).emulation(ARM64) == Emulation()


def test_without_qemu_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    emulator = Emulator(tmp_path / "table", places=())
    with pytest.raises(
        Unsupported, match=r"linux/arm64 need an emulator .*: qemu-aarch64-static is not installed"
    ) as caught:
        emulator.preflight([host_platform(), ARM64])
    assert "apt-get install qemu-user-static" in caught.value.hint


def test_an_emulator_that_needs_libraries_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    shutil.copy("/bin/bash", tmp_path / "qemu-aarch64")
    with pytest.raises(Unsupported, match="is not linked statically"):
        Emulator(tmp_path / "table", places=(os.fspath(tmp_path),)).emulation(ARM64)


@pytest.mark.parametrize(
    ("platform", "words"), [("linux/wasm", "no emulator for it"), ("windows/amd64", "cannot run on Linux")]
)
def test_platforms_that_cannot_run(emulator: Emulator, platform: str, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        emulator.emulation(Platform.parse(platform))


FORBIDDEN = """
import ctypes, sys
from pathlib import Path
from knarr import linux
from knarr.errors import Unsupported
from knarr.runtime.emulate import Emulator
from knarr.spec.platform import Platform
linux.unshare(linux.CLONE_NEWUSER)  # as nobody in it: may not write the identity map
try:
    Emulator(Path(sys.argv[1])).emulation(Platform("linux", "arm64"))
except Unsupported as error:
    print(error.render())
"""


def test_where_namespaces_are_forbidden_the_error_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    argv = [sys.executable, "-c", FORBIDDEN, tmp_path / "table"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "a namespace for emulated platforms cannot be made" in done.stdout
    assert "user.max_user_namespaces" in done.stdout


def test_two_runtimes_share_nothing(runtime: Runtime, tmp_path: Path) -> None:
    one, two = Emulator(tmp_path / "one"), Emulator(tmp_path / "two")
    first, second = one.emulation(ARM64), two.emulation(ARM64)
    assert first is not None
    assert second is not None
    assert os.stat(first.user_namespace).st_ino != os.stat(second.user_namespace).st_ino
    one.close()
    two.close()
