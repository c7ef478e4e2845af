"""What is asked of the kernel's control groups beside the runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr.runtime import cgroups

pytestmark = pytest.mark.root

GROUP = f"/knarr-entry-{os.getpid()}"
HASTEN = """
import sys
from knarr.runtime import cgroups
before = open("/proc/self/cgroup").read()
cgroups.hasten_entry()
assert open("/proc/self/cgroup").read() == before, before
"""


@pytest.fixture
def inside() -> Iterator[list[Path]]:
    """A group of our own in every tree, as a Pod or a service manager would have given us one."""
    trees = [tree for tree in Path(cgroups.ROOT).glob("*/") if (tree / "cgroup.procs").exists()]
    groups = [
        Path(f"{tree}{GROUP}") for tree in trees or [Path(cgroups.ROOT)] if tree.name not in ("cpuset", "unified")
    ]
    for group in groups:
        group.mkdir()
    yield groups
    for group in groups:
        group.rmdir()


def test_hastening_moves_nobody(inside: list[Path]) -> None:
    def enter() -> None:
        for group in inside:
            (group / "cgroup.procs").write_text("0")

    subprocess.run([sys.executable, "-c", HASTEN], check=True)
    subprocess.run([sys.executable, "-c", HASTEN], check=True, preexec_fn=enter)


def test_hastening_does_not_believe_a_table_without_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "cgroup.procs"
    table.write_text("1\n2\n")
    monkeypatch.setattr(cgroups, "trees", lambda: (str(tmp_path),))
    monkeypatch.setattr(cgroups, "own_group", lambda _: "")
    cgroups.hasten_entry()
    assert table.read_text() == "1\n2\n"
