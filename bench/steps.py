"""What a RUN costs: the time of twenty steps more, divided by twenty, less that of the bare process.

    python bench/steps.py [--runs N] [--peers-path DIR] [--json FILE]

knarr by itself, and `buildctl` with `knarr daemon` and buildkitd where they are on PATH, with crun and with runc, in
turn. The steps of a build were never run before; its base is unpacked, and its result stays in the cache. What clients
and frontends take is in both builds. BuildKit does not work with crun 1.8 (`run --keep`), so it is measured with runc.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from measure import run
from registry import Registry, push_base
from tools import BuildKit, Knarr, KnarrDaemon

STEPS = 20


class Alone(Knarr):
    """`knarr build` with one runtime."""

    def __init__(self, work: Path, registry: str, runtime: str) -> None:
        self.name = f"knarr {runtime}"
        super().__init__(work, registry)
        self.env["KNARR_OCI_RUNTIME"] = runtime

    def build(self, place: Path) -> Sequence[str]:
        knarr = str(Path(sys.executable).parent / "knarr")
        return [knarr, "build", "--progress=quiet", "--output=type=cacheonly", str(place)]


class _Client(BuildKit):
    runtime = ""

    @property
    def server(self) -> Sequence[str]:
        return [*super().server, "--oci-worker-binary", shutil.which(self.runtime) or self.runtime]

    def build(self, place: Path) -> Sequence[str]:
        lent = ["--local", f"context={place}", "--local", f"dockerfile={place}"]
        return [*self.ctl, "build", "--progress=plain", "--frontend=dockerfile.v0", *lent]


class Peer(_Client):
    """BuildKit's daemon with runc."""

    def __init__(self, work: Path, registry: str, runtime: str) -> None:
        self.name, self.runtime = f"buildkit {runtime}", runtime
        super().__init__(work, registry)


class Daemon(_Client, KnarrDaemon):
    """knarr's daemon with one runtime."""

    def __init__(self, work: Path, registry: str, runtime: str) -> None:
        self.name, self.runtime = f"knarr-daemon {runtime}", runtime
        super().__init__(work, registry)


def main() -> int:
    options = _options()
    if options.peers_path:
        os.environ["PATH"] = f"{options.peers_path}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="knarr-bench-") as place, Registry(Path(place)) as registry:
        work = Path(place)
        push_base(registry, work)
        tools: list[Alone | Peer | Daemon] = []
        for runtime in filter(shutil.which, ("crun", "runc")):
            tools.append(Alone(work, registry.address, runtime))
            if KnarrDaemon.is_here():
                tools.append(Daemon(work, registry.address, runtime))
        if BuildKit.is_here() and shutil.which("runc"):
            tools.append(Peer(work, registry.address, "runc"))
        times: dict[str, list[float]] = {tool.name: [] for tool in tools}
        try:
            for tool in tools:
                tool.start()
                _pair(tool, work / "warm-up", 0)
            for number in range(1, options.runs + 1):
                for tool in tools:
                    times[tool.name].append(_pair(tool, work / "context", number))
        finally:
            for tool in tools:
                tool.stop()
    _print(times)
    if options.json:
        Path(options.json).write_text(json.dumps(times, indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time what a RUN costs.")
    parser.add_argument("--runs", type=int, default=7, help="pairs of builds per builder")
    parser.add_argument("--peers-path", help="a directory to look for buildctl and buildkitd in, before PATH")
    parser.add_argument("--json", metavar="FILE", help="also write every sample here, in seconds")
    return parser.parse_args()


def _pair(tool: Alone | Peer | Daemon, place: Path, number: int) -> float:
    """Seconds for a step: of one build with one step, and one with twenty more."""
    one, many = (_time(tool, place, f"{number}-{count}", count) for count in (1, STEPS + 1))
    return (many - one) / STEPS


def _time(tool: Alone | Peer | Daemon, place: Path, name: str, count: int) -> float:
    place.mkdir(exist_ok=True)
    steps = "".join(f'RUN ["/bin/true", "{name}", "{step}"]\n' for step in range(count))
    (place / "Dockerfile").write_text(f"FROM busybox\n{steps}")
    return run(tool.build(place), env=tool.env, cwd=place).wall_s


def _bare() -> float:
    """Seconds for the process alone, as the kernel starts it for a program that waits."""
    times = []
    for _ in range(100):
        began = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def _print(times: dict[str, list[float]]) -> None:
    bare = _bare()
    cost = {name: statistics.median(samples) - bare for name, samples in times.items()}
    peer = cost.get("buildkit runc")
    print(f"the bare process: {bare * 1000:.1f} ms; medians of what a RUN costs more:")
    for name, seconds in cost.items():
        best = min(times[name]) - bare
        ratio = f"{seconds / peer:5.2f} of BuildKit's with runc" if peer else ""
        print(f"{name:20} {seconds * 1000:6.1f} ms   (best {best * 1000:5.1f})   {ratio}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
