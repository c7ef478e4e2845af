"""Times the built-in scanner, alone and in a first build, and syft where it is installed, on one root of Debian.

python bench/sbom.py [DIRECTORY] [--runs N]

Without DIRECTORY a Debian of about 150 MB is made by mmdebstrap from the machine's own apt sources.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description="Time SBOMs of a root.")
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        root = options.directory or debian(Path(work) / "debian")
        size = sum(entry.stat().st_size for entry in files(root))
        print(f"{root}: {size / 1e6:.0f} MB")
        out = f"{work}/sbom.json"
        report(
            "knarr", [sys.executable, "-m", "knarr", "sbom", f"dir:{root}", "--format", "spdx-json", "-o", out], options
        )
        in_build(root, Path(work), options)
        syft = shutil.which("syft", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
        if syft:
            report("syft", [syft, "scan", f"dir:{root}", "-q", "-o", f"spdx-json={out}"], options)
    return 0


def debian(target: Path) -> Path:
    """A Debian with apt, as base images are."""
    subprocess.run(["mmdebstrap", "--variant=apt", "--quiet", "bookworm", str(target)], check=True)
    return target


def files(root: Path) -> list[os.DirEntry[str]]:
    """The regular files below `root`."""
    found: list[os.DirEntry[str]] = []
    todo = [str(root)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    found.append(entry)
    return found


def in_build(root: Path, work: Path, options: argparse.Namespace) -> None:
    """The first build from an image of `root`, with and without an SBOM: for it the image is unpacked, and scanned."""
    (work / "image").write_text("FROM scratch\nCOPY . /\n")
    (work / "first").write_text("FROM base\n")
    (work / "empty").mkdir()
    build, state = [sys.executable, "-m", "knarr", "build", "-q", "--provenance=false"], work / "state"
    os.environ["KNARR_ROOT"] = str(state)
    layout = work / "layout"
    subprocess.run([*build, "-f", f"{work}/image", "-o", f"type=oci,tar=false,dest={layout}", str(root)], check=True)
    lent = ["--build-context", f"base=oci-layout://{layout}", "-f", f"{work}/first", str(work / "empty")]
    for name, wanted in (("build", "false"), ("build with SBOM", "true")):
        command = [*build, f"--sbom={wanted}", "-o", f"type=oci,dest={work}/out.tar", *lent]
        report(name, command, options, before=lambda: shutil.rmtree(state, ignore_errors=True))


def report(
    name: str, command: list[str], options: argparse.Namespace, *, before: Callable[[], None] = lambda: None
) -> None:
    """Run `command` and print the median of its wall times; `before` each run something else is done."""
    times = []
    for _ in range(options.runs):
        before()
        started = time.monotonic()
        subprocess.run(command, check=True, env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"})
        times.append(time.monotonic() - started)
    print(f"{name:6} {statistics.median(times):.2f} s (of {options.runs})")


if __name__ == "__main__":
    sys.exit(main())
