"""`knarr pki serve`: sign requests of other machines, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, no_words, parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory
from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.pki.authority import Authority

FLAGS = (
    DIR,
    Flag("listen", Kind.TEXT, "HOST:PORT", "where to listen (default: 127.0.0.1:8888)", short="l"),
    Flag("name", Kind.LIST, "NAME", "a name of this service, for its own certificate (default: localhost)", short="n"),
    Flag("permit", Kind.LIST, "DOMAIN|NETWORK", "sign for these names; may be given again"),
    Flag("lifetime", Kind.TEXT, "TIME", "how long certificates hold (default: 30d)"),
    Flag("auth-key", Kind.TEXT, "FILE", "the key that clients share, in hex (default: auth-key; made if missing)"),
    HELP,
)

_LOCAL = ("localhost", "127.0.0.1", "::1")


def help_text(word: str) -> str:
    """What `knarr pki serve --help` prints."""
    return (
        "Usage: knarr pki serve [OPTIONS]\n\n"
        "Sign requests over HTTPS until SIGTERM or Ctrl-C, as `cfssl serve` does at /api/v1/cfssl/authsign: clients\n"
        "prove that they know the shared key, and get certificates only for permitted names. GET /ca.pem and\n"
        f"/crl.pem need no key.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki serve ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki serve")
    if given.switch("help"):
        print(help_text(word))
        return 0
    no_words(given, "knarr pki serve")
    import asyncio

    from knarr.pki.authority import Authority
    from knarr.pki.names import Constraints, Names
    from knarr.pki.settings import parse_lifetime
    from knarr.pki.signing import SigningService, SigningSettings, shared_key
    from knarr.remote.url import split_host

    authority = Authority(directory(given, os.environ))
    text = given.text("listen", "127.0.0.1:8888")
    host, _, digits = text.rpartition(":")
    if not host or not digits.isdigit():
        raise UsageError(f"--listen {text}: not an address", hint="write HOST:PORT")
    settings = SigningSettings(
        split_host(host)[0],
        int(digits),
        Names.parse(given.list("name") or _local(authority)),
        shared_key(Path(given.text("auth-key") or authority.directory / "auth-key")),
        Constraints.parse(given.list("permit")),
        parse_lifetime(given.text("lifetime") or "30d"),
    )

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    service = SigningService(authority, settings, tell=tell)
    asyncio.run(service.serve(lambda: tell(f"listening on https://{host}:{service.port}")))
    return 0


def _local(authority: Authority) -> list[str]:
    """The names by which this machine calls itself, as far as the authority may sign for them."""
    from knarr.pki.names import Names

    names = [name for name in _LOCAL if not authority.constraints.refused(Names.parse([name]))]
    if not names:
        raise UsageError("this authority may not sign for this machine", hint="name the service with --name")
    return names
