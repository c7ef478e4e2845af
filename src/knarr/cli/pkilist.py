"""`knarr pki list`: what was issued, and until when it holds."""

from __future__ import annotations

import os
import time

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory

FLAGS = (
    DIR,
    Flag("all", Kind.SWITCH, "", "also what has ended or was revoked", short="a"),
    Flag("format", Kind.TEXT, "table|json", "how it is told (default: table)"),
    HELP,
)


def help_text(word: str) -> str:
    """What `knarr pki list --help` prints."""
    return f"Usage: knarr pki list [OPTIONS]\n\nList the certificates that were issued.\n\nOptions:\n{usage(FLAGS)}"


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki list ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki list")
    if given.switch("help"):
        print(help_text(word))
        return 0
    no_words(given, "knarr pki list")
    from knarr.cli.table import rows
    from knarr.errors import UsageError
    from knarr.pki.authority import Authority
    from knarr.pki.ledger import encode

    now_s = time.time()
    entries = Authority(directory(given, os.environ)).entries()
    shown = [entry for entry in entries if given.switch("all") or entry.holds(now_s)]
    form = given.text("format", "table")
    if form == "json":
        print(encode(shown).decode(), end="")
        return 0
    if form != "table":
        raise UsageError(f"--format {form}: not known", hint="use table or json")
    table = [("NAME", "USE", "UNTIL", "STATE", "SERIAL", "NAMES")]
    for entry in shown:
        until = time.strftime("%Y-%m-%d", time.gmtime(entry.not_after_s))
        days = int((entry.not_after_s - now_s) // 86_400)
        state = "revoked" if entry.revoked_s else "ended" if days < 0 else f"{days} days"
        table.append((entry.label, entry.use, until, state, f"{entry.serial:x}", ", ".join(entry.names)))
    for line in rows(table):
        print(line)
    return 0
