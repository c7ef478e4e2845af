"""`knarr doctor`: what this machine can do for builds, and whether the state directory is sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, no_words, parse, usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from knarr.cli.machinecheck import Finding

FLAGS = (
    Flag("store", Kind.SWITCH, "", "check the state directory instead: every blob, name, record and left-over"),
    Flag("repair", Kind.SWITCH, "", "with --store: remove what is damaged or left over; builds make it again"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr doctor --help` prints."""
    return (
        "Usage: knarr doctor [--store [--repair]]\n\n"
        "Say what this machine can do for builds. With --store check the state directory; the exit\n"
        f"status is 1 when something is wrong with it.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr doctor ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr doctor")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr doctor")
    return _tell(_findings(store=given.switch("store"), repair=given.switch("repair")))


def _findings(*, store: bool, repair: bool) -> Iterator[Finding]:
    from knarr.cli.state import open_parts

    with open_parts(os.environ, with_trees=True) as parts:
        if store:
            from knarr.cli.storecheck import check

            yield from check(parts, repair=repair)
        else:
            from knarr.cli.machinecheck import look

            yield from look(parts.settings)


def _tell(findings: Iterable[Finding]) -> int:
    """Print each finding as it comes; the exit status."""
    bad = 0
    for finding in findings:
        print(f"{finding.verdict:<8} {finding.subject:<14} {finding.text}", flush=True)
        if finding.hint:
            print(f"{'':<8} {'':<14} {finding.hint}")
        bad += finding.verdict == "WRONG"
    return 1 if bad else 0
