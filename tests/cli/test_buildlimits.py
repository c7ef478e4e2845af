"""`--memory`, `--resource` and their like, as limits."""

from __future__ import annotations

import pytest

from knarr.cli.buildoptions import parse_options
from knarr.errors import UsageError
from knarr.llb.ops import LinuxResources


def limits(*argv: str) -> LinuxResources | None:
    return parse_options([*argv, "."], {}, "/src").resources


def test_nothing_is_limited_unless_it_is_asked_for() -> None:
    assert limits() is None
    assert limits("--memory", "") is None


def test_the_flags_of_docker_and_the_keys_of_buildx_say_the_same() -> None:
    flags = "-m 2g --memory-swap 3g -c 512 --cpu-period 10000 --cpu-quota 5000 --cpuset-cpus 0,2-3 --cpuset-mems 0"
    keys = (
        "memory=2g",
        "memory-swap=3g,cpu-shares=512",
        "cpu-period=10000",
        "cpu-quota=5000,cpuset-cpus=0,2-3,cpuset-mems=0",
    )
    said = LinuxResources(2 << 30, 3 << 30, 512, 10_000, 5_000, "0,2-3", "0")
    assert limits(*flags.split()) == said
    assert limits(*(f"--resource={key}" for key in keys)) == said


def test_processors_and_processes_can_be_limited_as_well() -> None:
    assert limits("--resource", "memory=1g,cpu=1.5,pids=100") == LinuxResources(
        memory_bytes=1 << 30, cpu_period_us=100_000, cpu_quota_us=150_000, pids=100
    )


def test_a_resource_goes_before_a_flag() -> None:
    assert limits("--resource", "memory=1g", "--memory", "2g") == LinuxResources(memory_bytes=1 << 30)
    assert limits("--memory", "1g", "--memory-swap", "-1") == LinuxResources(1 << 30, -1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--memory", "1k"], "memory=1024: too little"),
        (["--memory-swap", "1g"], "memory-swap: wants a limit of memory"),
        (["--cpu-shares", "-1"], "--cpu-shares -1: not a whole number above 0"),
        (["--resource", "pids=0"], "--resource pids 0: not a whole number above 0"),
        (["--resource", "memory"], "--resource memory: 'memory' is not a limit"),
        (["--resource", "cpus=many"], "cpus=many: not a number of processors"),
        (["--cpuset-cpus", "first"], "cpuset-cpus=first: not a list of numbers"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        limits(*argv)
    assert message in refused.value.message
