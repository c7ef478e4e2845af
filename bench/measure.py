"""Wall time, CPU time and peak memory of a command and of the daemon that works for it.

CPU time comes from the kernel's accounting of finished children and of the daemon's
tree; memory is the sum of proportional set sizes, sampled while the command runs.
"""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class CommandFailed(Exception):
    """A measured command ended badly; its output is the message."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `memory_mib` is 0 when it was not measured."""

    wall_s: float
    cpu_s: float
    memory_mib: float = 0.0


def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, daemon: int | None = None, memory: bool = False
) -> Sample:
    """Run the command to its end and measure it, together with the tree of the process `daemon`.

    Raises:
        CommandFailed: it ended with a status other than 0.
    """
    before = _children_cpu() + (_tree_cpu(daemon) if daemon else 0.0)
    start = time.perf_counter()
    process = subprocess.Popen(argv, env=dict(env), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    watcher = Watcher([process.pid, *([daemon] if daemon else [])]) if memory else None
    output, _ = process.communicate()
    wall = time.perf_counter() - start
    peak = watcher.stop() if watcher else 0.0
    if process.returncode:
        raise CommandFailed(f"{' '.join(argv)}: {process.returncode}\n{output.decode(errors='replace')[-4000:]}")
    cpu = _children_cpu() + (_tree_cpu(daemon) if daemon else 0.0) - before
    return Sample(wall, cpu, peak)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tree_cpu(root: int) -> float:
    """CPU seconds of a process, its living descendants, and those it has waited for."""
    total = 0.0
    for pid in _tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) * _TICK_S
    return total


def _tree(root: int) -> list[int]:
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                todo += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


class Watcher:
    """Samples the memory of process trees every 10 ms, or `every_s`, on a thread of its own."""

    def __init__(self, roots: Sequence[int], *, every_s: float = 0.01) -> None:
        self._roots = roots
        self._every_s = every_s
        self._stop = threading.Event()
        self._peak_kib = 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self._peak_kib = max(self._peak_kib, sum(_pss(pid) for root in self._roots for pid in _tree(root)))

    def stop(self) -> float:
        """The peak in MiB."""
        self._stop.set()
        self._thread.join()
        return self._peak_kib / 1024


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0
