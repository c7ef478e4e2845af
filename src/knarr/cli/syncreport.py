"""How a sync is told: a line for each image as it is done, and what there was in the end."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.cli.flags import Parsed
    from knarr.sync.row import Row


class Printer:
    """Told of every row, from several threads."""

    def __init__(self, given: Parsed) -> None:
        self._json = given.text("format") == "json"
        self._all = given.switch("all") or self._json
        self._quiet = given.switch("quiet")
        self._lock = threading.Lock()

    def __call__(self, row: Row) -> None:
        """Print a row, unless it is only what was there already."""
        with self._lock:
            if self._json:
                print(_json(row), flush=True)
            elif row.result == "failed":
                # All failures come once more at the end; here, for who watches.
                print(f"failed: {_places(row)}: {row.error}", file=sys.stderr, flush=True)
            elif not self._quiet and (self._all or row.result != "unchanged"):
                print(_line(row), flush=True)

    def finish(self, rows: Sequence[Row]) -> None:
        """The failures together, and the counts."""
        from knarr.cli.progress.figures import size
        from knarr.sync.row import counts

        failures = [row for row in rows if row.result == "failed"]
        for row in failures:
            print(f"error: {_places(row)}: {row.error}", file=sys.stderr)
            if row.hint:
                print(f"hint: {row.hint}", file=sys.stderr)
        if self._json:
            return
        sent = sum(row.size_bytes for row in rows)
        print(summary(counts(rows)) + (f" ({size(sent)} sent)" if sent else ""))


def summary(counted: Mapping[str, int]) -> str:
    """How many images there were, and how many of them came out how."""
    parts = [f"{count} {result}" for result, count in counted.items()]
    return f"{sum(counted.values())} images: {', '.join(parts) or 'none'}"


def _line(row: Row) -> str:
    return f"{row.result:<12} {_places(row)}" + (f"@{row.digest}" if row.digest else "")


def _places(row: Row) -> str:
    return f"{row.source} → {row.target}" if row.source else row.target


def _json(row: Row) -> str:
    data = {
        "source": row.source,
        "target": row.target,
        "result": row.result,
        "digest": row.digest,
        "bytes": row.size_bytes,
        "seconds": round(row.seconds, 3),
        "error": row.error,
    }
    return json.dumps({name: value for name, value in data.items() if value not in ("", 0, 0.0) or name == "result"})
