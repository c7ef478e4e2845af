"""Control groups of a node, tried with the kernel's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from knarr import linux
from knarr.node.nesting import hierarchies


@pytest.fixture
def unified(tmp_path: Path) -> Iterator[Path]:
    """Version 2 as the kernel has it, mounted once more: other tests may have hidden what is in /sys/fs/cgroup."""
    place = tmp_path / "unified"
    place.mkdir()
    linux.mount("cgroup2", str(place), "cgroup2")
    yield place
    linux.umount(str(place))


def test_the_table_of_version_2_has_one_line_without_names() -> None:
    (found,) = hierarchies("0::/user.slice/a:b\n")
    assert (found.names, found.group, found.directory) == ("", "/user.slice/a:b", "")


def test_the_table_of_version_1_names_what_is_mounted_where() -> None:
    found = hierarchies("12:cpu,cpuacct:/docker/1\n1:name=systemd:/\n0::/\n")
    assert [(each.directory, each.option) for each in found[:2]] == [
        ("cpu,cpuacct", "cpu,cpuacct"),
        ("systemd", "none,name=systemd"),
    ]


# In namespaces of its own, below a group that the test made: what it moves is itself, and a child that is in the way.
SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from knarr import linux
from knarr.node import nesting

group = sys.argv[1]
Path(group, "cgroup.procs").write_text(str(os.getpid()))
linux.unshare(0x02000000)  # the group is the top of all
linux.isolate_mounts()
linux.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "")
linux.mount("cgroup2", "/sys/fs/cgroup", "cgroup2")
child = subprocess.Popen(["sleep", "60"])
print(nesting._hand_down(nesting.ROOT))
print(Path("/sys/fs/cgroup/cgroup.procs").read_text().split() == [])
print(str(child.pid) in Path("/sys/fs/cgroup/init/cgroup.procs").read_text().split())
os.mkdir("/sys/fs/cgroup/work")
print(sorted(Path("/sys/fs/cgroup/work/cgroup.controllers").read_text().split())
      == sorted(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()))
child.kill(); child.wait()
"""


@pytest.mark.root
def test_version_2_is_handed_down_after_everybody_moved_out_of_the_way(unified: Path) -> None:
    if os.statvfs(unified).f_flag & os.ST_RDONLY:
        pytest.skip("control groups of version 2 may not be written")
    group = unified / f"knarr-nesting-{os.getpid()}"
    group.mkdir()
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT, str(group)], capture_output=True, text=True)
        assert done.stdout.splitlines()[1:] == ["True", "True", "True"], done.stderr
        assert done.stdout.startswith("version 2: ")
    finally:
        for path in sorted(group.rglob("*/"), reverse=True):
            path.rmdir()
        group.rmdir()


BOTH = """
import sys
from pathlib import Path
from knarr import linux
from knarr.node import nesting

linux.isolate_mounts()
has_controllers = bool(Path(sys.argv[1], "cgroup.controllers").read_text().split())
found = nesting.hierarchies(Path("/proc/self/cgroup").read_text())
nesting._mount(found, False, anew=True)
print(*sorted(each.directory for each in found if each.names and (nesting.ROOT / each.directory / "tasks").exists()))
print(has_controllers != Path("/sys/fs/cgroup/unified/cgroup.procs").exists())
"""


@pytest.mark.root
def test_version_2_is_there_beside_version_1_when_it_has_no_controllers(unified: Path) -> None:
    found = hierarchies(Path("/proc/self/cgroup").read_text())
    if len({bool(each.names) for each in found}) < 2:
        pytest.skip("no control groups of both versions")
    done = subprocess.run([sys.executable, "-c", BOTH, str(unified)], capture_output=True, text=True)
    names = " ".join(sorted(each.directory for each in found if each.names))
    assert done.stdout.splitlines() == [names, "True"], done.stderr
