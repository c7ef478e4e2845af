"""`knarr pki renew`: make certificates anew that end soon, where they lie."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory
from knarr.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.pki.authority import Authority
    from knarr.pki.ledger import Issued

FLAGS = (
    DIR,
    Flag("within", Kind.TEXT, "TIME", "renew what ends within this time (default: a third of what it was made for)"),
    Flag("force", Kind.SWITCH, "", "renew whatever is left of its time", short="f"),
    Flag("keep-key", Kind.SWITCH, "", "keep the key (default: a new one)"),
    HELP,
)


def help_text(word: str) -> str:
    """What `knarr pki renew --help` prints."""
    return (
        "Usage: knarr pki renew [OPTIONS] [NAME...]\n\n"
        "Make certificates anew, for the same names and as long as before, in the directory they were written to.\n"
        "Without NAMEs all that end soon: run it daily from a timer. The revocation list is renewed as well.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki renew ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki renew")
    if given.switch("help"):
        print(help_text(word))
        return 0
    from knarr.pki.authority import Authority, label_of
    from knarr.pki.settings import parse_lifetime

    authority = Authority(directory(given, os.environ))
    within_s = parse_lifetime(given.text("within")) if given.text("within") else 0
    now_s = time.time()
    entries = authority.entries()
    labels = [label_of(text) for text in given.words] or list(dict.fromkeys(entry.label for entry in entries))
    due = []
    for entry in _latest(entries, labels, named=bool(given.words)):
        limit_s = within_s or (entry.not_after_s - entry.not_before_s) / 3
        if given.switch("force") or entry.not_after_s - now_s < limit_s:
            due.append(entry)
    for entry in due:
        if not entry.place:
            print(f"{entry.label}: its key is elsewhere; have a new request signed")
            continue
        _renew(authority, entry, given, now_s)
        print(Path(entry.place) / "cert.pem")
    if (authority.directory / "crl.pem").exists():
        authority.renew_crl(now_s=now_s)
    return 0


def _latest(entries: Sequence[Issued], labels: Sequence[str], *, named: bool) -> list[Issued]:
    from knarr.pki import ledger

    found = []
    for label in labels:
        entry = ledger.latest(entries, label)
        if entry is not None:
            found.append(entry)
        elif named:
            raise NotFound(f"no certificate {label} was issued", hint="`knarr pki list --all` shows what was")
    return found


def _renew(authority: Authority, entry: Issued, given: Parsed, now_s: float) -> None:
    from knarr.pki import files, issue
    from knarr.pki.issue import subject_of
    from knarr.pki.names import Names, of_certificate
    from knarr.pki.settings import Use, Wanted

    place = Path(entry.place)
    old = files.certificates(files.read(place / "cert.pem"), where=str(place / "cert.pem"))[0]
    key = files.private_key(files.read(place / "key.pem"), where=str(place / "key.pem"))
    wanted = Wanted(subject_of(old.subject), Use(entry.use), entry.not_after_s - entry.not_before_s)
    names: Names = of_certificate(old)
    new_key = key if given.switch("keep-key") else issue.make_key(issue.kind_of(key))
    authority.issue(wanted, names, now_s=now_s, key=new_key, label=entry.label, place=place)
