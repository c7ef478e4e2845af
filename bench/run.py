"""Runs the workloads with every builder that is here, in turn, and prints medians and ratios.

python bench/run.py [WORKLOAD …] [--only TOOL,…] [--runs N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import CommandFailed, Sample, run
from registry import Registry, push_base, push_large
from tools import TOOLS, Tool, can_do
from workloads import WORKLOADS, Workload, generate

Results = dict[str, dict[str, list[Sample]]]  # workload → tool → samples, the last with memory


def main() -> int:
    options = _options()
    if options.list:
        for workload in WORKLOADS:
            print(f"{workload.name:12} {workload.title}")
        return 0
    if options.peers_path:
        os.environ["PATH"] = f"{options.peers_path}:{os.environ['PATH']}"
    wanted = [w for w in WORKLOADS if not options.workloads or w.name in options.workloads]
    names = options.only.split(",") if options.only else list(TOOLS)
    with _work(options.work) as work, Registry(work) as registry:
        push_base(registry, work)
        tools = [TOOLS[name](work, registry.address) for name in names if TOOLS[name].is_here()]
        results: Results = {}
        for tool in tools:
            tool.start()
        try:
            for workload in wanted:
                if workload.name == "pull":
                    push_large(registry, work)
                results[workload.name] = _measure(workload, tools, work, options.runs, memory=not options.no_memory)
                _print_row(workload, results[workload.name])
        finally:
            for tool in tools:
                tool.stop()
    _print_table(wanted, results)
    if options.json:
        Path(options.json).write_text(json.dumps(_plain(results), indent=2))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time knarr against the builders that are installed.")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="list the workloads")
    parser.add_argument("--only", help="builders, separated by commas (default: all that are here)")
    parser.add_argument("--runs", type=int, help="measured runs per workload and builder")
    parser.add_argument("--no-memory", action="store_true", help="leave out the extra run that samples memory")
    parser.add_argument("--peers-path", help="a directory to look for buildctl and buildkitd in, before PATH")
    parser.add_argument("--work", help="keep generated contexts and state here (default: a temporary directory)")
    parser.add_argument("--json", metavar="FILE", help="also write every sample here")
    return parser.parse_args()


@contextmanager
def _work(chosen: str | None) -> Iterator[Path]:
    if chosen:
        path = Path(chosen).absolute()
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    path = Path(tempfile.mkdtemp(prefix="knarr-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _measure(
    workload: Workload, tools: Sequence[Tool], work: Path, runs: int | None, *, memory: bool
) -> dict[str, list[Sample]]:
    """Turn by turn: each round runs every builder once, so that a slow minute of the machine hits all of them."""
    context = generate(workload, work / "contexts")
    able = [tool for tool in tools if can_do(tool, workload)]
    samples: dict[str, list[Sample]] = {tool.name: [] for tool in able}
    rounds = runs or workload.runs
    for number in range(rounds + 1 + memory):  # the first warms up; the last samples memory
        for tool in able:
            if workload.cold:
                tool.empty()
            if workload.touch:
                workload.touch(context, number * len(able) + able.index(tool))
            try:
                sampled = memory and number == rounds + 1
                sample = run(
                    tool.command(workload, context), env=tool.env, cwd=work, daemon=tool.daemon, memory=sampled
                )
            except CommandFailed as error:
                print(f"{tool.name} {workload.name}: {error}", file=sys.stderr)
                samples.pop(tool.name, None)
                able = [other for other in able if other is not tool]
                continue
            if number and tool.name in samples:
                samples[tool.name].append(sample)
    return samples


def _medians(samples: Sequence[Sample]) -> tuple[float, float, float]:
    timed = [s for s in samples if not s.memory_mib] or list(samples)
    wall = statistics.median(s.wall_s for s in timed)
    cpu = statistics.median(s.cpu_s for s in timed)
    return wall, cpu, max(s.memory_mib for s in samples)


def _print_row(workload: Workload, results: dict[str, list[Sample]]) -> None:
    for tool, samples in results.items():
        if samples:
            wall, cpu, memory = _medians(samples)
            print(
                f"{workload.name:12} {tool:9} wall {wall:8.3f} s   cpu {cpu:8.2f} s   memory {memory:6.0f} MiB",
                flush=True,
            )


def _print_table(workloads: Sequence[Workload], results: Results) -> None:
    print(f"\n{os.cpu_count()} cores. knarr ÷ builder, wall time (CPU time):\n")
    peers = sorted({tool for row in results.values() for tool in row if tool != "knarr"})
    print("| workload | knarr s | MiB | " + " | ".join(peers) + " |")
    print("|---|---|---|" + "---|" * len(peers))
    for workload in workloads:
        row = results.get(workload.name, {})
        if not row.get("knarr"):
            continue
        wall, cpu, memory = _medians(row["knarr"])
        cells = []
        for peer in peers:
            if not row.get(peer):
                cells.append("–")
                continue
            other_wall, other_cpu, _ = _medians(row[peer])
            cells.append(f"{wall / other_wall:.2f} ({cpu / other_cpu if other_cpu else 0:.2f})")
        print(f"| {workload.title} | {wall:.3f} | {memory:.0f} | " + " | ".join(cells) + " |")


def _plain(results: Results) -> dict[str, object]:
    return {
        name: {tool: [[s.wall_s, s.cpu_s, s.memory_mib] for s in samples] for tool, samples in row.items()}
        for name, row in results.items()
    }


if __name__ == "__main__":
    sys.exit(main())
