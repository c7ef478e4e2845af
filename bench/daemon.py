"""Asks much of a daemon: `buildctl` with `knarr daemon`, and with buildkitd where it is on PATH.

    python bench/daemon.py [warm] [crowd] [long] [log] [--peers-path DIR]

- warm: the median of a build that changes nothing, from the client's start to its end.
- crowd: builds by many clients at once, each of a context of its own with three steps, on an empty cache.
- long: the memory of the daemon after so many builds, and half as many before.
- log: whether a step's output of 100 MiB arrives, to the byte, and how long that takes.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from registry import Registry, push_base
from tools import BuildKit, KnarrDaemon
from workloads import WORKLOADS, generate

_STEPS = "FROM busybox\nCOPY name /\nRUN cat name > one\nRUN cat one one > two\nRUN cat one two > three\n"
_LINE = 1023  # of a log, without its end


def main() -> int:
    options = _options()
    if options.peers_path:
        os.environ["PATH"] = f"{options.peers_path}:{os.environ['PATH']}"
    if not KnarrDaemon.is_here():
        raise SystemExit("buildctl is not on PATH: --peers-path says where it is")
    with tempfile.TemporaryDirectory(prefix="knarr-bench-") as place, Registry(Path(place)) as registry:
        work = Path(place)
        push_base(registry, work)
        for name in options.questions or list(QUESTIONS):
            with _daemons(work, registry.address) as daemons:
                for line in QUESTIONS[name](daemons, work, options):
                    print(f"{name:6} {line}", flush=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time knarr daemon against buildkitd.")
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], help="which (default: all)")
    parser.add_argument("--peers-path", help="a directory to look for buildctl and buildkitd in, before PATH")
    parser.add_argument("--clients", type=int, default=20, help="of crowd")
    parser.add_argument("--rounds", type=int, default=3, help="of crowd and log; five times as many of warm")
    parser.add_argument("--builds", type=int, default=200, help="of long")
    parser.add_argument("--log-mib", type=int, default=100, help="of log")
    return parser.parse_args()


@contextmanager
def _daemons(work: Path, registry: str) -> Iterator[list[BuildKit]]:
    """Those that can be had, on state of their own."""
    place = Path(tempfile.mkdtemp(dir=work))
    found = [kind(place, registry) for kind in (KnarrDaemon, BuildKit) if kind.is_here()]
    for daemon in found:
        daemon.start()
    try:
        yield found
    finally:
        for daemon in found:
            daemon.stop()


def _warm(daemons: Sequence[BuildKit], work: Path, options: argparse.Namespace) -> Iterator[str]:
    workload = next(each for each in WORKLOADS if each.name == "warm")
    context = generate(workload, work / "contexts")
    taken: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    for number in range(5 * options.rounds + 2):
        for daemon in daemons:
            seconds = _timed(daemon.command(workload, context))
            if number > 1:
                taken[daemon.name].append(seconds)
    for name, times in taken.items():
        yield f"{name:12} {statistics.median(times) * 1000:7.1f} ms (best {min(times) * 1000:.1f})"


def _crowd(daemons: Sequence[BuildKit], work: Path, options: argparse.Namespace) -> Iterator[str]:
    taken: dict[str, list[float]] = {daemon.name: [] for daemon in daemons}
    for number in range(options.rounds):
        contexts = [_context(work / f"crowd{number}/{client}", _STEPS) for client in range(options.clients)]
        for daemon in daemons:
            daemon.empty()
            with ThreadPoolExecutor(options.clients) as clients:
                begun = time.perf_counter()
                list(clients.map(_timed, [_build(daemon, context) for context in contexts]))
                taken[daemon.name].append(time.perf_counter() - begun)
    for name, times in taken.items():
        median = statistics.median(times)
        yield f"{name:12} {median:6.2f} s for {options.clients} builds: {options.clients / median * 60:.0f} a minute"


def _long(daemons: Sequence[BuildKit], work: Path, options: argparse.Namespace) -> Iterator[str]:
    for daemon in daemons:
        figures = []
        for half in range(2):
            for number in range(options.builds // 2):
                context = _context(work / f"long/{daemon.name}{half}-{number}", _STEPS)
                _timed(_build(daemon, context))
            figures.append(_resident_mib(daemon.daemon or 0))
        half, whole = figures
        yield f"{daemon.name:12} {whole:6.1f} MiB after {options.builds} builds, {half:.1f} after half of them"


def _log(daemons: Sequence[BuildKit], work: Path, options: argparse.Namespace) -> Iterator[str]:
    lines = (options.log_mib << 20) // (_LINE + 1)
    text = f"FROM busybox\nCOPY name /\nRUN yes {'x' * _LINE} | head -n {lines}\n"
    for number in range(options.rounds):
        context = _context(work / f"log{number}", text)
        for daemon in daemons:
            command = _build(daemon, context)
            begun = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
            seconds = time.perf_counter() - begun
            arrived = sum(line.count(b"x") for line in done.stderr.splitlines() if re.search(rb" x{99,}$", line))
            part = arrived / (lines * _LINE)
            yield f"{daemon.name:12} {part:8.2%} of {options.log_mib} MiB in {seconds:5.2f} s"


def _context(place: Path, dockerfile: str) -> Path:
    place.mkdir(parents=True)
    (place / "name").write_text(f"{place} {time.time_ns()}\n")
    (place / "Dockerfile").write_text(dockerfile)
    return place


def _build(daemon: BuildKit, context: Path) -> list[str]:
    words = ["build", "--progress=plain", "--frontend=dockerfile.v0", "--output=type=image,name=bench"]
    return [*daemon.ctl, *words, f"--local=context={context}", f"--local=dockerfile={context}"]


def _timed(command: Sequence[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return time.perf_counter() - begun


def _resident_mib(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


QUESTIONS = {"warm": _warm, "crowd": _crowd, "long": _long, "log": _log}

if __name__ == "__main__":
    sys.exit(main())
