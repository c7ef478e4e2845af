"""Writes docs/reference/commands.md from the help texts of all commands.

python tools/reference.py > docs/reference/commands.md
"""

from __future__ import annotations

import os
import subprocess
import sys

from knarr.cli import COMMANDS

_TITLE = """# Commands

Made by `tools/reference.py` from what `knarr help COMMAND` prints.
"""


def help_text(command: str) -> str:
    """What `knarr help COMMAND` prints, at a width that does not depend on the terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "knarr", "help", command],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip()


def page() -> str:
    """The whole page."""
    sections = [_section(name, summary) for name, (_, summary) in COMMANDS.items()]
    return "\n".join([_TITLE, *sections])


def _section(name: str, summary: str) -> str:
    return f"## knarr {name}\n\n{summary}.\n\n```\n{help_text(name)}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
