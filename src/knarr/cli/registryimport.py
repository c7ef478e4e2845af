"""`knarr registry import`: take over what another registry has on this machine's disk."""

from __future__ import annotations

import os
import sys

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

FLAGS = (Flag("help", Kind.SWITCH, "", "show this text", short="h"),)


def help_text() -> str:
    """What `knarr registry import --help` prints."""
    return (
        "Usage: knarr registry import DIRECTORY\n\n"
        "Take over all repositories of a distribution registry (docker-registry; its rootdirectory) or of a zot.\n"
        "The other one is only read. Blobs are cloned where the file system can do that, checked, and not read\n"
        "again by a second import. The exit status is 1 when something was damaged and left out.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr registry import ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr registry import")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError(
            "knarr registry import takes one directory", hint="knarr registry import /var/lib/docker-registry"
        )
    from pathlib import Path

    from knarr.cli.registrygc import opened
    from knarr.registry.adopting import adopt
    from knarr.registry.foreign import holdings

    directory = Path(given.words[0])
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory")
    damaged = 0
    with opened(os.environ) as (store, ledger, _):
        for holding in holdings(directory):
            done = adopt(store, ledger, holding, tell=lambda line: print(f"warning: {line}", file=sys.stderr))
            damaged += done.damaged
            print(f"{done.name}: {done.tags} tags, {done.manifests} manifests, {done.blobs} blobs", flush=True)
    if damaged:
        print(f"{damaged} blobs or manifests were damaged or missing, and left out", file=sys.stderr)
    return 1 if damaged else 0
