"""`knarr doctor`: what this machine can do for builds, and whether the state directory is sound."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from knarr.cli.machine.finding import Finding

FLAGS = (
    Flag("store", Kind.SWITCH, "", "check the state directory instead: every blob, name, record and left-over"),
    Flag("repair", Kind.SWITCH, "", "with --store: remove what is damaged or left over; builds make it again"),
    Flag("format", Kind.TEXT, "text|json", "a table for people, or one JSON object per line; default text"),
    Flag("strict", Kind.SWITCH, "", "exit with status 3 when something works with less than it could"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr doctor --help` prints."""
    return (
        "Usage: knarr doctor [--store [--repair]] [--format json] [--strict]\n\n"
        "Say what this machine offers for builds, what knarr uses of it, what that costs, and how to get\n"
        "better. With --store check the state directory instead. The exit status is 1 when something is\n"
        f"WRONG.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr doctor ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr doctor")
    if given.switch("help"):
        print(help_text())
        return 0
    no_words(given, "knarr doctor")
    form = given.text("format") or "text"
    if form not in ("text", "json"):
        raise UsageError(f"--format={form}: not known", hint="use text or json")
    show = _show_json if form == "json" else _show_text
    worst = _tell(_findings(store=given.switch("store"), repair=given.switch("repair")), show)
    return 1 if worst == "WRONG" else 3 if worst == "limited" and given.switch("strict") else 0


def _findings(*, store: bool, repair: bool) -> Iterator[Finding]:
    from knarr.cli.state import open_parts

    with open_parts(os.environ, with_trees=True) as parts:
        if store:
            from knarr.cli.storecheck import check

            yield from check(parts, repair=repair)
        else:
            from knarr.cli.machine.look import look

            yield from look(parts.settings)


def _tell(findings: Iterable[Finding], show: Callable[[Finding], None]) -> str:
    """Show each finding as it comes; the worst verdict."""
    verdicts = {"ok"}
    for finding in findings:
        show(finding)
        verdicts.add(finding.verdict)
    return next(verdict for verdict in ("WRONG", "limited", "ok") if verdict in verdicts)


def _show_text(finding: Finding) -> None:
    mark = " (used)" if finding.used == "yes" else ""
    print(f"{finding.verdict:<8} {finding.subject:<18} {finding.text}{mark}".rstrip(), flush=True)
    used = f"used: {finding.used}" if finding.used not in ("", "yes", "no") else ""
    cost = f"cost: {finding.cost}" if finding.cost else ""
    for line in ("; ".join(filter(None, (used, cost))), finding.hint and f"better: {finding.hint}"):
        if line:
            print(f"{'':<8} {'':<18} {line}")


def _show_json(finding: Finding) -> None:
    import json

    print(json.dumps(finding.as_json()), flush=True)
