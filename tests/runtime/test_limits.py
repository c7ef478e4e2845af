"""Limits of containers: what the runtime is told, what is refused, and that the kernel keeps to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knarr.errors import Unsupported, UsageError
from knarr.llb.ops import LinuxResources
from knarr.runtime import cgroups, delegation, limits

Run = Callable[..., Any]  # the fixture `run`

FORK_BOMB = "b() { b | b & b; }; b"


def test_only_what_is_limited_is_told() -> None:
    assert limits.resources(LinuxResources()) == {}
    assert limits.resources(LinuxResources(memory_bytes=64 << 20, pids=9)) == {
        "memory": {"limit": 64 << 20},
        "pids": {"limit": 9},
    }
    told = limits.resources(LinuxResources(cpu_quota_us=5000, cpu_period_us=10000, cpuset_cpus="0-1", cpu_shares=512))
    assert told == {"cpu": {"shares": 512, "quota": 5000, "period": 10000, "cpus": "0-1"}}


def test_limits_read_as_they_were_asked_for() -> None:
    asked = LinuxResources(memory_bytes=1 << 30, memory_swap_bytes=-1, cpu_shares=2, pids=3)
    assert limits.in_words(asked) == "memory=1073741824,memory-swap=-1,cpu-shares=2,pids=3"
    assert limits.in_words(asked, "pids") == "pids=3"
    assert limits.controllers(asked) == {"memory", "cpu", "pids"}


@pytest.mark.parametrize(
    "impossible",
    [
        LinuxResources(memory_bytes=4096),
        LinuxResources(memory_swap_bytes=1 << 30),
        LinuxResources(memory_bytes=2 << 30, memory_swap_bytes=1 << 30),
        LinuxResources(cpu_quota_us=10),
        LinuxResources(cpu_period_us=10),
        LinuxResources(cpu_shares=1),
        LinuxResources(cpuset_cpus="one"),
        LinuxResources(cpuset_cpus="3-1"),
        LinuxResources(cpuset_mems="0-99999999999"),
        LinuxResources(cpuset_mems="-1"),
    ],
)
def test_what_no_kernel_takes_is_refused_by_name(impossible: LinuxResources) -> None:
    with pytest.raises(UsageError, match=r"(memory|cpu)[a-z-]*[=:]"):
        limits.check(impossible)


def test_processors_are_a_quota_of_a_period() -> None:
    assert limits.quota_of_cpus("1.5") == (100_000, 150_000)
    for wrong in ("0", "-1", "two", "nan", "inf", "0.001"):
        with pytest.raises(UsageError, match="cpus="):
            limits.quota_of_cpus(wrong)


def test_a_limit_is_refused_where_no_group_was_handed_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    with pytest.raises(Unsupported, match=r"\(pids=5\).*has no controller pids") as refused:
        delegation.place(LinuxResources(pids=5))
    assert "Delegate=yes" in refused.value.hint
    assert delegation.place(LinuxResources(cpu_shares=9)) == ""


def test_a_group_that_was_handed_down_is_used_and_its_processes_move_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kernel: what is written where. With systemd and version 2 it was tried for crun and runc."""
    scope = tmp_path / "user.slice/run-1.scope"
    scope.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (scope / "cgroup.controllers").write_text("memory pids\n")
    (scope / "cgroup.subtree_control").write_text("")
    (scope / "cgroup.procs").write_text("41\n42\n")
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    monkeypatch.setattr(cgroups, "own_group", lambda _: "/user.slice/run-1.scope/knarr-self")
    written: list[tuple[str, str]] = []

    def write(path: str, text: str) -> None:
        is_first = not written
        written.append((path.removeprefix(str(scope)), text))
        if is_first:
            raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(delegation, "_write", write)
    assert delegation.place(LinuxResources(memory_bytes=1 << 30, pids=5)) == "/user.slice/run-1.scope"
    below = "/knarr-self/cgroup.procs"
    control = ("/cgroup.subtree_control", "+memory +pids")
    assert written == [control, (below, "41"), (below, "42"), control]
    assert delegation.handed_down() == ("/user.slice/run-1.scope", ("memory", "pids"))
    with pytest.raises(Unsupported, match=r"cpu-shares=5: the group /user.slice/run-1.scope has no controller cpu"):
        delegation.place(LinuxResources(cpu_shares=5))


@pytest.mark.root
@pytest.mark.system
class TestKept:
    def test_a_step_sees_its_limits(self, run: Run) -> None:
        wanted = LinuxResources(memory_bytes=64 << 20, pids=50, cpu_quota_us=50_000, cpuset_cpus="0")
        ran = run(
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; nproc",
            limits=wanted,
        )
        assert ran.out.split() == [str(64 << 20), "1"]

    def test_too_much_memory_is_told_whoever_ends_with_what(self, run: Run) -> None:
        wanted = LinuxResources(memory_bytes=16 << 20)
        killed = run(["tail", "/dev/zero"], limits=wanted)
        assert (killed.status, killed.at_memory_limit) == (137, True)
        hidden = run("tail /dev/zero; exit 3", limits=wanted)
        assert (hidden.status, hidden.at_memory_limit) == (3, True)
        other = run("exit 3", limits=wanted)
        assert (other.status, other.at_memory_limit) == (3, False)

    def test_a_fork_bomb_ends_at_its_limit(self, run: Run) -> None:
        ran = run(FORK_BOMB, limits=LinuxResources(pids=20))
        assert (ran.status, "can't fork: Resource temporarily unavailable" in ran.err) == (2, True)

    def test_nothing_is_left_of_the_groups(self, run: Run) -> None:
        parent = "/knarr-limits-test"
        run("true", limits=LinuxResources(memory_bytes=64 << 20), cgroup_parent=parent)
        left = [group for tree in cgroups.trees() for group in Path(f"{tree}{parent}/knarr").glob("*/")]
        cgroups.remove(parent)
        assert left == []
