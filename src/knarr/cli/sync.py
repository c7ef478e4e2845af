"""`knarr sync`: the door. What is behind it is in `syncrun`.

This module imports nothing at its top that a sync without news does not need: one
whose images are all where they were is recognised first (`syncrecall`).
"""

from __future__ import annotations


def run(argv: list[str]) -> int:
    """Carry out `knarr sync ARGUMENTS`.

    Raises:
        UsageError: the file cannot be read or meant.
        KnarrError: with --fail-fast, the first failure.
    """
    from knarr.cli.syncrecall import recall

    known = recall(argv)
    if known is not None:
        return known
    from knarr.cli.syncrun import sync

    return sync(argv)


def help_text() -> str:
    """What `knarr sync --help` prints."""
    from knarr.cli import syncrun

    return syncrun.help_text()
