"""`knarr version`: the version of this knarr, and of the Python that runs it."""

from __future__ import annotations

import os
import sys


def run(argv: list[str]) -> int:
    """Carry out `knarr version`."""
    from importlib.metadata import version

    if argv in (["-h"], ["--help"]):
        print("Usage: knarr version\n\nShow the version.")
        return 0
    print(f"knarr {version('knarr')} (Python {sys.version.split()[0]}, linux/{os.uname().machine})")
    return 0
