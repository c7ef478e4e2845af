"""What an authority has issued and revoked: lines of JSON in the order they happened. Pure but for the codec.

A line is written before the certificate is handed out, so that nothing valid is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from knarr.errors import UsageError
from knarr.record import record, replace


@record
class Issued:
    """One certificate. Times are seconds since 1970; `revoked_s` 0: it is not revoked."""

    serial: int
    label: str  # what it is called here
    place: str  # the directory its files were written to; "": somebody else has the key
    names: tuple[str, ...]
    use: str
    not_before_s: int
    not_after_s: int
    revoked_s: int = 0

    def holds(self, now_s: float) -> bool:
        """Whether it is good at that time."""
        return not self.revoked_s and now_s < self.not_after_s


def encode(entries: Iterable[Issued]) -> bytes:
    """The ledger as a file."""
    return b"".join(
        json.dumps(
            {
                "serial": f"{entry.serial:x}",
                "label": entry.label,
                "place": entry.place,
                "names": list(entry.names),
                "use": entry.use,
                "not_before": entry.not_before_s,
                "not_after": entry.not_after_s,
                "revoked": entry.revoked_s,
            },
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for entry in entries
    )


def decode(data: bytes, *, where: str) -> tuple[Issued, ...]:
    """The entries of a ledger's file.

    Raises:
        UsageError: a line cannot be read; says which.
    """
    entries = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            entries.append(_entry(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{where}:{number}: not a line of an authority's ledger") from error
    return tuple(entries)


def _entry(data: dict[str, Any]) -> Issued:
    return Issued(
        int(data["serial"], 16),
        str(data["label"]),
        str(data.get("place", "")),
        tuple(map(str, data["names"])),
        str(data["use"]),
        int(data["not_before"]),
        int(data["not_after"]),
        int(data.get("revoked", 0)),
    )


def latest(entries: Sequence[Issued], label: str) -> Issued | None:
    """The newest certificate of that label which was not revoked."""
    return next((entry for entry in reversed(entries) if entry.label == label and not entry.revoked_s), None)


def revoke(entries: Sequence[Issued], serials: Iterable[int], now_s: int) -> tuple[Issued, ...]:
    """The entries with these revoked; who was revoked before stays as it was."""
    wanted = set(serials)
    return tuple(
        replace(entry, revoked_s=now_s) if entry.serial in wanted and not entry.revoked_s else entry
        for entry in entries
    )
