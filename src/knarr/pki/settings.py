"""What a certificate is to be: kind of key, how long it holds, whom it names, what it may be used for."""

from __future__ import annotations

import re
from enum import Enum

from knarr.errors import UsageError
from knarr.record import record

KEY_KINDS = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096")
_DURATION = re.compile(r"(\d+)([smhdwy])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
MAX_LIFETIME_S = 100 * 365 * 86_400


class Use(Enum):
    """What the holder of a certificate does with it."""

    SERVER = "server"
    CLIENT = "client"
    PEER = "peer"  # both, as members of a cluster do


@record
class Subject:
    """Whom a certificate names to people. Empty parts are left out."""

    common_name: str = ""
    organization: str = ""
    unit: str = ""
    country: str = ""
    state: str = ""
    locality: str = ""


@record
class Wanted:
    """A certificate to make for somebody else than an authority."""

    subject: Subject
    use: Use
    lifetime_s: int


def checked_key_kind(text: str) -> str:
    """`text`, if keys of that kind can be made.

    Raises:
        UsageError: they cannot.
    """
    if text not in KEY_KINDS:
        raise UsageError(f"keys of the kind {text!r} are not made", hint="use one of: " + ", ".join(KEY_KINDS))
    return text


def parse_lifetime(text: str) -> int:
    """Seconds from `90d`, `1y`, `8760h`, `1h30m`.

    Raises:
        UsageError: it is no such time, or none at all, or over 100 years.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{text!r} is no length of time", hint="write it like 90d, 8760h or 1y")
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= MAX_LIFETIME_S:
        raise UsageError(f"{text}: a certificate holds for at least a second and at most 100 years")
    return seconds
