"""One line of a sync's result."""

from __future__ import annotations

from collections.abc import Iterable

from knarr.record import record

COPIED, UNCHANGED, DELETED, FAILED, SKIPPED = "copied", "unchanged", "deleted", "failed", "skipped"
WOULD_COPY, WOULD_DELETE = "would copy", "would delete"
RESULTS = (COPIED, UNCHANGED, DELETED, WOULD_COPY, WOULD_DELETE, SKIPPED, FAILED)


@record
class Row:
    """What became of one image at one target."""

    source: str
    target: str
    result: str
    digest: str = ""
    size_bytes: int = 0  # that were sent
    seconds: float = 0.0
    error: str = ""
    hint: str = ""


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows there are of each result that there is."""
    found = dict.fromkeys(RESULTS, 0)
    for row in rows:
        found[row.result] += 1
    return {result: count for result, count in found.items() if count}
