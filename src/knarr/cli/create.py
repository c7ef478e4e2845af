"""`knarr create`: a container that is started later."""

from __future__ import annotations

import os

from knarr.cli import run as running
from knarr.cli.runflags import asked


def help_text() -> str:
    """What `knarr create --help` prints."""
    return running.help_text("create")


def run(argv: list[str]) -> int:
    """Carry out `knarr create ARGUMENTS`."""
    return running.told(lambda: _create(argv))


def _create(argv: list[str]) -> int:
    given, words = running.parsed(argv, "create")
    if given.switch("help"):
        print(help_text())
        return 0
    print(running.created(given, asked(given, words, os.environ)).id)
    return 0
