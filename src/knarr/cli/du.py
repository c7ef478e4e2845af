"""`knarr du`: what the build cache takes on the disk, record by record."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, no_words, parse, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.cache.record import Record

FLAGS = (
    Flag("filter", Kind.LIST, "FIELD=VALUE", "only records that match, such as type=exec.cachemount or until=24h"),
    Flag("verbose", Kind.SWITCH, "", "whole descriptions and IDs"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)
_WIDTH = 80


def help_text() -> str:
    """What `knarr du --help` prints."""
    return f"Usage: knarr du [OPTIONS]\n\nShow what the build cache takes.\n\nOptions:\n{usage(FLAGS)}"


def run(argv: list[str]) -> int:
    """Carry out `knarr du ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr du")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr du")
    records = _chosen(_records(), given.list("filter"))
    for line in table(records, verbose=given.switch("verbose")):
        print(line)
    return 0


def _records() -> Sequence[Record]:
    from knarr.cli.state import open_parts
    from knarr.engine.prune import usage as measured

    with open_parts(os.environ, with_trees=True) as parts:
        return measured(parts)


def _chosen(records: Sequence[Record], filters: Sequence[str]) -> list[Record]:
    import time

    from knarr.cache.prune import matcher

    users: dict[str, int] = {}
    for record in records:
        if record.parent is not None:
            users[record.parent] = users.get(record.parent, 0) + 1
    wanted = matcher(filters, now_ns=time.time_ns(), in_use=(), needed=users)
    return [record for record in records if wanted(record)]


def table(records: Sequence[Record], *, verbose: bool) -> list[str]:
    """The lines to print, the largest first, with the total at the end."""
    from knarr.cache.prune import size_of
    from knarr.cli.progress.figures import size

    lines = [f"{'SIZE':>10}  {'TYPE':<16}  {'LAST USED':<12}  DESCRIPTION"]
    for record in sorted(records, key=size_of, reverse=True):
        text = record.description or record.id
        text = text if verbose or len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
        lines.append(f"{size(size_of(record)):>10}  {record.kind:<16}  {_ago(record):<12}  {text}")
        if verbose:
            lines.append(f"{'':>10}  {record.id}")
    lines.append(f"{size(sum(map(size_of, records))):>10}  in all")
    return lines


def _ago(record: Record) -> str:
    import time

    seconds = (time.time_ns() - max(record.used_ns, record.created_ns)) // 1_000_000_000
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
