"""What starting costs: the modules that a command loads, compared with what Python itself has loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LISTING = "import sys; from knarr.cli import main; main({argv!r}); print(*sorted(sys.modules), file=sys.stderr)"
HEAVY = {
    *("argparse", "asyncio", "concurrent.futures", "ctypes", "dataclasses", "email", "google.protobuf", "hashlib"),
    *("http.client", "inspect", "isal", "json", "logging", "shutil", "sqlite3", "ssl", "subprocess", "tempfile"),
    *("urllib.request", "zstandard"),
}
# What no step of an ordinary build needs; nor `ssl`, where registries speak plain HTTP.
NEVER = {
    *("argparse", "asyncio", "concurrent.futures", "dataclasses", "decimal", "difflib", "email", "fractions"),
    *("google.protobuf", "http.client", "inspect", "logging", "random", "shutil", "ssl", "subprocess", "tempfile"),
    *("traceback", "urllib.request", "zstandard"),
}
COLD = 373  # modules, Python's own included, at 0.1 to 0.2 ms each; a build with every kind of step below loads 373


def loaded(*argv: str, **env: str) -> set[str]:
    """The modules in a process that ran `knarr argv`."""
    command = [sys.executable, "-c", LISTING.format(argv=list(argv))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    return set(done.stderr.splitlines()[-1].split())


def bare() -> set[str]:
    command = [sys.executable, "-c", "import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True).stdout.split())


def test_help_loads_nothing_but_the_table_of_commands() -> None:
    assert loaded("--help") - bare() == {
        "__future__",
        "gc",
        "knarr",
        "knarr.cli",
        "knarr.startup",
        "knarr.startup.onefile",
    }


def test_help_of_build_loads_nothing_heavy(tmp_path: Path) -> None:
    modules = loaded("build", "--help", KNARR_ROOT=str(tmp_path))
    assert modules & HEAVY <= {"json"}  # for logins, as any build that is not warm
    assert {name for name in modules if name.startswith(("knarr.engine.", "knarr.remote", "knarr.ops"))} <= {
        "knarr.engine.fingerprint"
    }


@pytest.mark.root
@pytest.mark.system
def test_a_warm_build_loads_nothing_heavy(bases: Any, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN true\nCOPY Dockerfile /\n")
    os.utime(context / "Dockerfile", (1_700_000_000, 1_700_000_000))
    env = {"KNARR_ROOT": str(tmp_path / "state"), "KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    argv = ("build", "--tag", "app", str(context))
    runs = [loaded(*argv, **env) for _ in range(3)]
    assert "knarr.engine.engine" in runs[0]
    assert "knarr.engine.engine" not in runs[-1]
    assert runs[-1] & HEAVY == set()


@pytest.mark.root
@pytest.mark.system
def test_a_cold_build_loads_what_its_steps_need_and_no_more(bases: Any, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    env = {"KNARR_ROOT": str(tmp_path / "state"), "KNARR_HOSTS_DIR": str(bases.hosts_dir)}
    argv = ("build", "--tag", f"{bases.address}/cold:1", "--push", str(context))
    for text in ("FROM busybox\n", "FROM busybox\nCOPY . /app\nRUN ls > list\nCOPY . copy\nHEALTHCHECK CMD true\n"):
        (context / "Dockerfile").write_text(text)
        modules = loaded(*argv, **env)
    assert {"knarr.runtime.runner", "knarr.ops.lazycopy", "knarr.export.push"} <= modules
    assert modules & NEVER == set()
    assert len(modules) <= COLD, len(modules)
