"""`knarr pki init`: make an authority."""

from __future__ import annotations

import os
import time

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.cli.pkicommon import DIR, HELP, KEY, ORGANIZATION, directory, file, subject

_ROOT, _INTERMEDIATE = "10y", "5y"
FLAGS = (
    DIR,
    Flag("name", Kind.TEXT, "TEXT", "the authority's name (default: knarr)", short="n"),
    ORGANIZATION,
    Flag("lifetime", Kind.TEXT, "TIME", f"how long the root holds, like 10y or 87600h (default: {_ROOT})"),
    Flag("intermediate", Kind.OPTIONAL, "TIME", f"sign with an intermediate; its time (default: {_INTERMEDIATE})"),
    KEY,
    Flag("permit", Kind.LIST, "DOMAIN|NETWORK", "sign for nothing else (name constraints); may be given again"),
    Flag("csr", Kind.TEXT, "FILE", "take name, key and time from a CSR document of cfssl"),
    HELP,
)


def help_text(word: str) -> str:
    """What `knarr pki init --help` prints."""
    return (
        "Usage: knarr pki init [OPTIONS]\n\n"
        "Make an authority: ca.pem, which everybody may have, and ca-key.pem, which nobody else should. With\n"
        "--intermediate the root's key is needed no more, and can be kept elsewhere. With --permit a stolen\n"
        f"authority cannot sign for other domains.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki init ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki init")
    if given.switch("help"):
        print(help_text(word))
        return 0
    no_words(given, "knarr pki init")
    from knarr.pki import cfssl
    from knarr.pki.authority import Authority, Plan
    from knarr.pki.names import Constraints
    from knarr.pki.settings import checked_key_kind, parse_lifetime

    who, kind, lifetime_s = subject(given, given.text("name") or "knarr"), "ecdsa-p256", parse_lifetime(_ROOT)
    if given.text("csr"):
        request = cfssl.request(file(given.text("csr")), where=given.text("csr"))
        who, kind, lifetime_s = request.subject, request.key_kind, request.lifetime_s
    if given.text("lifetime"):
        lifetime_s = parse_lifetime(given.text("lifetime"))
    between = 0
    if "intermediate" in given.values:
        text = given.text("intermediate")
        between = parse_lifetime(_INTERMEDIATE if text == "true" else text)  # "true": the flag without a value
    kind = checked_key_kind(given.text("key") or kind)
    plan = Plan(who, kind, lifetime_s, between, Constraints.parse(given.list("permit")))
    made = Authority.create(directory(given, os.environ), plan, now_s=time.time())
    print(made.directory / "ca.pem")
    return 0
