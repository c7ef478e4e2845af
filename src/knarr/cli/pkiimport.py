"""`knarr pki import`: take over an authority that another program made."""

from __future__ import annotations

import os

from knarr.cli.flags import parse, usage
from knarr.cli.pkicommon import DIR, HELP, directory, file
from knarr.errors import UsageError

FLAGS = (DIR, HELP)


def help_text(word: str) -> str:
    """What `knarr pki import --help` prints."""
    return (
        "Usage: knarr pki import CERTIFICATE KEY\n       knarr pki import FILE\n\n"
        "Take over an authority: its certificate and its key in PEM, as openssl and `cfssljson -bare` write them\n"
        "(ca.pem, ca-key.pem), or the JSON that `cfssl gencert` prints. For an intermediate the root's certificate\n"
        f"stands behind its own. What it issued before stays good; it is not listed.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(word: str, argv: list[str]) -> int:
    """Carry out `knarr pki import ARGUMENTS`."""
    given = parse(FLAGS, argv, command="knarr pki import")
    if given.switch("help"):
        print(help_text(word))
        return 0
    if len(given.words) not in (1, 2):
        raise UsageError("knarr pki import needs a certificate and its key", hint="see `knarr pki import --help`")
    from knarr.pki import cfssl
    from knarr.pki.authority import Authority

    first = given.words[0]
    certificate = file(first)
    if len(given.words) == 2:
        key = file(given.words[1])
    elif cfssl.is_document(certificate):
        certificate, key = cfssl.bundle(certificate, where=first)
    else:
        key = certificate  # both in one file
    made = Authority.adopt(directory(given, os.environ), certificate, key, where=first)
    print(made.directory / "ca.pem")
    return 0
