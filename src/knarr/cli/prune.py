"""`knarr prune`: remove what builds no longer need."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from knarr.cli.buildvalues import size_bytes
from knarr.cli.flags import Flag, Kind, Parsed, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from knarr.cache.prune import Policy
    from knarr.cache.record import Record

FLAGS = (
    Flag("all", Kind.SWITCH, "", "also records of knarr's own that builds make on the way", short="a"),
    Flag("dry-run", Kind.SWITCH, "", "say what would go, and remove nothing"),
    Flag("filter", Kind.LIST, "FIELD=VALUE", "only records that match, such as until=24h (not used for so long)"),
    Flag("force", Kind.SWITCH, "", "do not ask", short="f"),
    Flag("max-used-space", Kind.TEXT, "SIZE", "remove, longest unused first, until no more than SIZE is used"),
    Flag("min-free-space", Kind.TEXT, "SIZE", "remove, longest unused first, until SIZE is free on the disk"),
    Flag("reserved-space", Kind.TEXT, "SIZE", "leave the cache SIZE, whatever the other limits say"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
    Flag("keep-storage", Kind.REFUSED, summary="use --reserved-space to leave so much, --max-used-space to allow it"),
    Flag("verbose", Kind.REFUSED_SWITCH, summary="--dry-run lists what would go", off=("false",)),
)
_LIMITS = ("max-used-space", "min-free-space", "reserved-space")


def help_text() -> str:
    """What `knarr prune --help` prints."""
    return (
        "Usage: knarr prune [OPTIONS]\n\n"
        "Remove cache records, cache mounts and blobs that no image needs. Images with a name stay.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr prune ARGUMENTS`."""
    from knarr.cli.progress.figures import size

    given = parse(FLAGS, argv, command="knarr prune")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr prune")
    dry_run = given.switch("dry-run")
    if not dry_run and not given.switch("force") and not _agreed(given):
        print("nothing removed", file=sys.stderr)
        return 1
    from knarr.cli.state import open_parts
    from knarr.engine import prune as work

    with open_parts(os.environ, with_trees=True) as parts:
        policy = _policy(given, parts.settings.root, work.usage(parts))
        pruned = work.prune(parts, policy, dry_run=dry_run)
    for record in pruned.records:
        print(f"{size(record.size_bytes):>10}  {record.description or record.id}")
    print(f"{'would free' if dry_run else 'freed'} {size(pruned.freed_bytes)}")
    return 0


def _agreed(given: Parsed) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("knarr prune removes what it finds without a question", hint="say so with --force")
    what = "the cache records that match" if given.list("filter") else "the whole build cache"
    print(f"This removes {what}. Images with a name stay. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _policy(given: Parsed, root: Path, records: Sequence[Record]) -> Policy:
    from knarr.cache.prune import Policy, ceiling, size_of

    limits = {name: size_bytes(f"--{name}", given.text(name)) for name in _LIMITS if given.text(name)}
    disk = os.statvfs(root)
    most = ceiling(
        used_bytes=sum(map(size_of, records)),
        free_bytes=disk.f_bavail * disk.f_frsize,
        max_used_bytes=limits.get("max-used-space"),
        min_free_bytes=limits.get("min-free-space"),
        reserved_bytes=limits.get("reserved-space"),
    )
    return Policy(max_used_bytes=most, filters=given.list("filter"), all=given.switch("all"))
