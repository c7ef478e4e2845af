"""`knarr pki revoke`: say that certificates are good no more."""

from __future__ import annotations

import os
import time

from knarr.cli.flags import parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory
from knarr.errors import NotFound

FLAGS = (DIR, HELP)


def help_text(word: str) -> str:
    """What `knarr pki revoke --help` prints."""
    return (
        "Usage: knarr pki revoke [NAME|SERIAL...]\n\n"
        "Revoke all certificates of a name, or one by its serial number, and write the revocation list crl.pem.\n"
        "Without arguments only write the list anew: it holds for 30 days.\n\n"
        f"Options:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki revoke ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki revoke")
    if given.switch("help"):
        print(help_text(word))
        return 0
    from knarr.pki.authority import Authority, label_of

    authority = Authority(directory(given, os.environ))
    entries = authority.entries()
    serials: list[int] = []
    for text in given.words:
        found = [e.serial for e in entries if e.label == label_of(text) or f"{e.serial:x}" == text.lower()]
        if not found:
            raise NotFound(f"no certificate {text} was issued", hint="`knarr pki list --all` shows what was")
        serials += found
    authority.revoke(serials, now_s=time.time())
    print(authority.directory / "crl.pem")
    return 0
