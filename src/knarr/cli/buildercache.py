"""`knarr builder du` and `prune`: what a builder's cache holds, and less of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from knarr.cli.buildercommon import BUILDER, HELP, meant, reached
from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.client.connection import Builder

FLAGS = {
    "du": (
        BUILDER,
        Flag("filter", Kind.LIST, "FIELD=VALUE", "only records that match, such as type=exec.cachemount"),
        Flag("verbose", Kind.SWITCH, "", "whole descriptions and IDs"),
        HELP,
    ),
    "prune": (
        Flag("all", Kind.SWITCH, "", "also what the builder keeps for itself", short="a"),
        BUILDER,
        Flag("filter", Kind.LIST, "FIELD=VALUE", "only records that match"),
        Flag("force", Kind.SWITCH, "", "do not ask", short="f"),
        Flag("max-used-space", Kind.TEXT, "SIZE", "remove until no more than SIZE is used"),
        Flag("min-free-space", Kind.TEXT, "SIZE", "remove until SIZE is free on the builder's disk"),
        Flag("reserved-space", Kind.TEXT, "SIZE", "leave the cache SIZE, whatever the other limits say"),
        Flag("until", Kind.TEXT, "DURATION", "only what was not used for so long, such as 24h or 30m"),
        HELP,
    ),
}
_USAGE = {
    "du": "[OPTIONS] [BUILDER]\n\nShow what a builder's cache takes, node by node.",
    "prune": "[OPTIONS] [BUILDER]\n\nRemove what a builder's cache no longer needs, on all of its nodes.",
}
_WIDTH = 80
_UNITS_NS = {"s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}


def help_text(word: str) -> str:
    """What `knarr builder WORD --help` prints."""
    return f"Usage: knarr builder {word} {_USAGE[word]}\n\nOptions:\n{usage(FLAGS[word])}"


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr builder WORD ARGUMENTS`."""
    given = parse(FLAGS[word], argv, command=f"knarr builder {word}")
    if given.switch("help"):
        print(help_text(word))
        return 0
    builder = meant(given, f"knarr builder {word}")
    if word == "prune" and not given.switch("force"):
        _agree(builder.name)
    for node in builder.nodes:
        if len(builder.nodes) > 1:
            print(f"{node.name} ({node.address})")
        with reached(node) as far:
            if word == "du":
                _show(far.usage(_filters(given)), verbose=given.switch("verbose"))
            else:
                _prune(far, given)
    return 0


def _show(records: Sequence[Any], *, verbose: bool) -> None:
    from knarr.cli.progress.figures import size

    print(f"{'SIZE':>10}  {'TYPE':<16}  {'USED':<6}  DESCRIPTION")
    for record in sorted(records, key=lambda record: -record.Size):
        text = " ".join((record.Description or record.ID).split())
        text = text if verbose or len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
        print(f"{size(record.Size):>10}  {record.RecordType:<16}  {record.UsageCount:<6}  {text}")
        if verbose:
            print(f"{'':>10}  {record.ID}")
    shared = sum(record.Size for record in records if record.Shared)
    print(
        f"{size(sum(record.Size for record in records)):>10}  in all" + (f", {size(shared)} shared" if shared else "")
    )


def _prune(far: Builder, given: Parsed) -> None:
    from knarr.cli.buildvalues import size_bytes
    from knarr.cli.progress.figures import size
    from knarr.pb import control_pb2 as pb

    limits = {
        name: size_bytes(f"--{name}", given.text(name)) if given.text(name) else 0
        for name in ("max-used-space", "min-free-space", "reserved-space")
    }
    request = pb.PruneRequest(
        filter=_filters(given),
        all=given.switch("all"),
        keepDuration=_duration_ns(given.text("until")),
        reservedSpace=limits["reserved-space"],
        maxUsedSpace=limits["max-used-space"],
        minFreeSpace=limits["min-free-space"],
    )
    freed = 0
    for record in far.prune(request):
        freed += record.Size
        print(f"{size(record.Size):>10}  {' '.join((record.Description or record.ID).split())}", flush=True)
    print(f"freed {size(freed)}")


def _filters(given: Parsed) -> list[str]:
    """Filters as containerd writes them: a value with `=` and quotes; several pairs of one text all have to match."""
    found = []
    for text in given.list("filter"):
        parts = []
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if not key or (equals and not value):
                raise UsageError(f"--filter {text}: not FIELD=VALUE")
            negated = key.endswith("!")
            operator = "!=" if negated else "~=" if key.endswith("~") else "=="
            parts.append(f"{key.rstrip('!~')}{operator}{value}" if equals else key)
        found.append(",".join(parts))
    return found


def _duration_ns(text: str) -> int:
    if not text:
        return 0
    number, unit = text[:-1], text[-1]
    if not (number.isascii() and number.isdigit()) or unit not in _UNITS_NS:
        raise UsageError(f"--until {text}: not a duration", hint="write a number and s, m, h or d: 24h")
    return int(number) * _UNITS_NS[unit]


def _agree(name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("knarr builder prune removes what it finds without a question", hint="say so with --force")
    print(f"This removes the build cache of {name}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was removed")
