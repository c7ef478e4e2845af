"""`knarr node check`: what is in a node image, each program asked for its version."""

from __future__ import annotations

HELP = """\
Usage: knarr node check

Run every program of a node once, and say which version it is. The status is 1 if one of them does not run."""


def help_text() -> str:
    """What `knarr node check --help` prints."""
    return HELP


def run(argv: list[str]) -> int:
    """Carry out `knarr node check ARGUMENTS`."""
    from knarr.cli.flags import Flag, Kind, no_words, parse

    given = parse((Flag("help", Kind.SWITCH, short="h"),), argv, command="knarr node check")
    if given.switch("help"):
        print(HELP)
        return 0
    no_words(given, "knarr node check")
    from knarr.cli.table import rows
    from knarr.node.check import check

    found = check()
    print("\n".join(rows([(each.name, each.version or f"DOES NOT RUN: {each.problem}") for each in found])))
    return 1 if any(each.problem for each in found) else 0
