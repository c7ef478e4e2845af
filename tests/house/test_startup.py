"""What starting costs: the modules that `knarr --help` loads, compared with what Python itself has loaded."""

from __future__ import annotations

import subprocess
import sys

LISTING = (
    "import sys; from knarr.cli import main; status = main({argv!r}); print(*sorted(sys.modules), file=sys.stderr)"
)


def loaded(*argv: str) -> set[str]:
    """The modules in a process that ran `knarr argv`."""
    done = subprocess.run([sys.executable, "-c", LISTING.format(argv=list(argv))], capture_output=True, text=True)
    return set(done.stderr.split())


def bare() -> set[str]:
    done = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    return set(done.stdout.split())


def test_help_loads_nothing_but_the_table_of_commands() -> None:
    assert loaded("--help") - bare() == {"knarr", "knarr.cli"}


def test_help_of_build_loads_neither_engine_nor_network() -> None:
    modules = loaded("build", "--help")
    assert {name for name in modules if name.startswith(("knarr.engine", "knarr.remote", "knarr.ops"))} == set()
    assert modules & {"argparse", "asyncio", "ssl", "http.client", "sqlite3", "google.protobuf", "subprocess"} == set()
