"""Builds whose steps are limited in what they take of the machine."""

from __future__ import annotations

import pytest

from tests.engine.aftermath import assert_nothing_left
from tests.engine.conftest import Knarr

pytestmark = [pytest.mark.root, pytest.mark.system]


def test_each_step_has_the_limits_and_they_are_no_part_of_the_cache_key(knarr: Knarr) -> None:
    read = "(cd /sys/fs/cgroup; cat memory.max || cat memory/memory.limit_in_bytes) 2>/dev/null"
    dockerfile = f"FROM busybox\nRUN {read} > /m; {read} > /n\nRUN {read} > /n\n"
    limited = knarr.build(dockerfile, "--memory=64m", "--resource=pids=100")
    assert limited.contents["m"] == limited.contents["n"] == f"{64 << 20}\n".encode()
    assert knarr.build(dockerfile).contents["m"] == f"{64 << 20}\n".encode()


def test_a_step_that_is_killed_at_its_limit_says_which(knarr: Knarr) -> None:
    failed = knarr.run(*knarr.command("FROM busybox\nRUN tail /dev/zero\n", "-m", "16m"), check=False)
    assert failed.returncode == 1
    assert "Dockerfile.test:2" in failed.stderr
    assert "hint: the kernel killed a process of it at its memory limit of 16 MiB: raise --memory" in failed.stderr
    assert_nothing_left(knarr)


def test_a_fork_bomb_fails_its_step_and_nothing_else(knarr: Knarr) -> None:
    dockerfile = "FROM busybox\nRUN b() { b | b & b; }; b\n"
    failed = knarr.run(*knarr.command(dockerfile, "--resource=pids=30"), check=False)
    assert failed.returncode == 1
    assert "can't fork: Resource temporarily unavailable" in failed.stderr
    assert_nothing_left(knarr)


def test_a_limit_is_refused_where_no_group_is_to_be_had(knarr: Knarr) -> None:
    knarr.env["KNARR_PROFILE"] = "container"
    failed = knarr.run(*knarr.command("FROM busybox\nRUN true\n", "--memory=64m"), check=False)
    assert failed.returncode == 1
    assert "limits of steps (memory=67108864) cannot be had here" in failed.stderr
