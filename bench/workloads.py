"""What is built: a context, a Dockerfile, what happens before each measured run.

All random bytes come from a fixed seed, so every machine builds the same; what is touched has the time in it.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TEXT = (
    b"the quick brown fox jumps over the lazy dog and runs through the build log, line after line, of a step "
    b"that compiles and links and copies what was compiled into the image where it is then found\n"
)


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table.

    `cold` workloads begin each run with an empty build cache (bases and contexts stay
    known); `touch` changes the context before each run and is given the run's number.
    """

    name: str
    title: str
    dockerfile: str
    make: Callable[[Path], None]
    cold: bool = False
    touch: Callable[[Path, int], None] | None = None
    platforms: str = ""
    compression: str = "gzip"
    runs: int = 5
    build_args: Mapping[str, str] = field(default_factory=dict)
    pull_only: bool = False  # the measured command fetches and unpacks an image that is pushed beforehand


def _app(context: Path) -> None:
    source = context / "src"
    source.mkdir(parents=True, exist_ok=True)
    for number in range(40):
        (source / f"module{number}.py").write_bytes(_TEXT * 10 + str(number).encode())


def _touch_app(context: Path, run: int) -> None:
    (context / "src/module7.py").write_text(f"changed = {run}, {time.time_ns()}\n")  # as no cache that was kept has it


def _nothing(context: Path) -> None:
    (context / "empty").touch()


def _touch_nothing(context: Path, run: int) -> None:
    (context / "empty").write_text(f"{run} {time.time_ns()}")


def small_files(count: int) -> Callable[[Path], None]:
    """`count` files of 200 to 4000 bytes in directories of 100."""

    def make(context: Path) -> None:
        numbers = random.Random(5)
        for number in range(count):
            directory = context / f"d{number // 100 % 100:02}/e{number // 10000:02}"
            if number % 100 == 0:
                directory.mkdir(parents=True, exist_ok=True)
            size = numbers.randrange(200, 4000)
            (directory / f"f{number:06}.txt").write_bytes((str(number).encode() + _TEXT * 20)[:size])

    return make


def one_large_file(mib: int) -> Callable[[Path], None]:
    """A mix as found in layers: text, repeated binary structure, and a quarter of random bytes."""

    def make(context: Path) -> None:
        numbers = random.Random(7)
        words = [numbers.randbytes(numbers.randrange(2, 12)) for _ in range(4000)]
        with open(context / "large.bin", "wb") as file:
            for _ in range(mib):
                kind = numbers.randrange(4)
                if kind == 0:
                    file.write(numbers.randbytes(1 << 20))
                else:
                    block = b"".join(numbers.choices(words, k=180_000))
                    file.write((block + _TEXT * 12000)[: 1 << 20])

    return make


def _touch_kept(context: Path, run: int) -> None:
    (context / "keep/k7").write_text(f"{run} {time.time_ns()}")


def _mostly_ignored(context: Path) -> None:
    small_files(100_000)(context)
    (context / "keep").mkdir(exist_ok=True)
    for number in range(100):
        (context / f"keep/k{number}").write_text(str(number))
    (context / ".dockerignore").write_text("*\n!keep\n")


def _stages(count: int) -> str:
    lines = []
    for number in range(count):
        lines.append(f"FROM busybox AS s{number}\nCOPY empty /e{number}\nRUN echo {number} > /r{number}")
    lines.append("FROM busybox")
    lines += [f"COPY --from=s{number} /r{number} /all/" for number in range(count)]
    return "\n".join(lines) + "\n"


_APP = 'FROM busybox\nWORKDIR /app\nCOPY src src\nRUN ls -R src > list\nENV A=b\nCMD ["cat", "list"]\n'
_TEN = "FROM busybox\n" + "".join(f"RUN echo {number} > /file{number}\n" for number in range(10))
_ALL = "FROM busybox\nCOPY . /app/\n"
_LARGE = "FROM busybox\nCOPY large.bin /\n"
# Shell built-ins only: BuildKit with stock qemu cannot start a second emulated program.
_TWO = (
    "FROM busybox AS b\nCOPY src /src\nRUN while read -r l; do echo $l; done < /src/module1.py > /copy\n"
    "FROM busybox\nCOPY --from=b /copy /\nRUN read -r l < /copy; echo $l > /line\n"
)

WORKLOADS = (
    Workload("warm", "warm rebuild with push", _APP, _app, runs=15),
    Workload("changed", "one file changed", _APP, _app, touch=_touch_app, runs=9),
    Workload("cold", "cold build of ten RUNs", _TEN, _nothing, cold=True, runs=7),
    Workload("files", "50,000 small files", _ALL, small_files(50_000), cold=True, runs=3),
    Workload("layer-gzip", "1 GiB layer, gzip", _LARGE, one_large_file(1024), cold=True, runs=2),
    Workload("layer-zstd", "1 GiB layer, zstd", _LARGE, one_large_file(1024), cold=True, compression="zstd", runs=2),
    Workload("platforms", "two platforms", _TWO, _app, cold=True, platforms="linux/amd64,linux/arm64", runs=5),
    Workload("stages", "200 stages", _stages(200), _nothing, cold=True, touch=_touch_nothing, runs=2),
    Workload(
        "ignored",
        "100,000 files, 100 kept",
        _ALL,
        _mostly_ignored,
        touch=_touch_kept,
        runs=5,
    ),
    Workload(
        "pull", "pull and unpack 1 GiB", "FROM bench-large\nRUN test -s /large.bin\n", _nothing, cold=True, runs=3
    ),
)


def generate(workload: Workload, root: Path) -> Path:
    """The context directory of a workload, made once; the Dockerfile lies beside it."""
    context = root / workload.name / "context"
    done = root / workload.name / "done"
    if not done.exists():
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir(parents=True)
        workload.make(context)
        done.touch()
    (root / workload.name / "Dockerfile").write_text(workload.dockerfile)
    return context
