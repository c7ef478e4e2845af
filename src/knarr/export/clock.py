"""Times in image documents: RFC 3339 text ↔ nanoseconds since 1970."""

from __future__ import annotations

import time

from knarr.errors import ContentError

SECOND = 1_000_000_000


def rfc3339(ns: int) -> str:
    """The text Go writes: UTC, fraction without trailing zeros."""
    seconds, fraction = divmod(ns, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z" if fraction else f"{text}Z"


def nanoseconds(text: str) -> int:
    """The time of an RFC 3339 text.

    Raises:
        ContentError: it is none.
    """
    from datetime import datetime

    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    zone = rest[len(digits) :] if dot else ""
    try:
        parsed = datetime.fromisoformat(whole + zone)  # its own fractions end at microseconds
    except ValueError as error:
        raise ContentError(f"{text!r} is not a time") from error
    if parsed.tzinfo is None:
        raise ContentError(f"{text!r} has no time zone")
    return int(parsed.timestamp()) * SECOND + int(digits.ljust(9, "0")[:9] or 0)
