"""What must not be found in the tree: places of one machine, and names of registries that users did not choose."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(
    "|".join(
        (
            r"/work/(main|peers|shared|venv|\.)",  # the directory of one developer's machine
            r"deb\.debian" + r"\.org",  # the mirror comes from the machine's own apt configuration
            r"archive\.ubuntu" + r"\.com",
            r"pypi" + r"\.org",
            r"quay" + r"\.io/(?!example)",
            r"gcr" + r"\.io/(?!example)",
        )
    )
)
GENERATED = {"LICENSE"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_file_names_a_machine_or_a_mirror() -> None:
    found = []
    for path in tracked():
        if path.name in GENERATED or not path.is_file() or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if FORBIDDEN.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_init_files_are_title_pages() -> None:
    heavy = []
    for path in (ROOT / "src/knarr").rglob("__init__.py"):
        lines = [line for line in path.read_text().splitlines() if re.match(r"\s*(import|from) ", line)]
        if [line for line in lines if line.strip() != "import sys"] and path.parent.name != "cli":
            heavy.append(str(path.relative_to(ROOT)))
    assert heavy == []


def test_no_module_is_called_after_nothing() -> None:
    names = {path.stem for path in (ROOT / "src/knarr").rglob("*.py")}
    assert names & {"util", "utils", "common", "helpers", "misc"} == set()
