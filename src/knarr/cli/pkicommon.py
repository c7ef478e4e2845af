"""Where the authority lies, and the flags that several commands of `knarr pki` share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed

if TYPE_CHECKING:
    from knarr.pki.settings import Subject

DIR = Flag("dir", Kind.TEXT, "DIR", "the authority's directory", short="d")
HELP = Flag("help", Kind.SWITCH, "", "show this text", short="h")
KEY = Flag("key", Kind.TEXT, "KIND", "ecdsa-p256 (the default), ecdsa-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096")
ORGANIZATION = Flag("organization", Kind.TEXT, "TEXT", "the organization that the certificate names", short="o")


def directory(given: Parsed, environ: Mapping[str, str]) -> Path:
    """The authority's directory: not below KNARR_ROOT, which may be deleted at any time."""
    text = given.text("dir") or environ.get("KNARR_PKI", "")
    if text:
        return Path(text).absolute()
    if os.geteuid() == 0:
        return Path("/etc/knarr/pki")
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "knarr/pki"


def subject(given: Parsed, common_name: str) -> Subject:
    """Whom a certificate names."""
    from knarr.pki.settings import Subject

    return Subject(common_name=common_name, organization=given.text("organization"))


def file(path: str) -> bytes:
    """The bytes of a file the user named; `-` is standard input.

    Raises:
        KnarrError: it cannot be read.
    """
    if path == "-":
        import sys

        return sys.stdin.buffer.read()
    from knarr.pki import files

    return files.read(Path(path))
