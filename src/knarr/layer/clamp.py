"""Cut the times in a layer tar down to a latest one: what `rewrite-timestamp` does to a layer that exists.

The bytes are those of BuildKit's converter (util/converter/tarconverter at v0.33)
for a layer that Go or we wrote: later times become `max_mtime_s`, earlier ones
stay, and everything else is as it was.
"""

from __future__ import annotations

from collections.abc import Callable

from knarr.layer.tar_read import Reader
from knarr.layer.tar_write import Writer
from knarr.streams import Readable, Writable


def clamp(source: Readable, out: Writable, max_mtime_s: int, *, check: Callable[[], None] | None = None) -> None:
    """Copy the tar `source` to `out`; no time in it is later than `max_mtime_s` (seconds since 1970) then.

    Reads `source` to its very end. `check` runs per entry (cancellation).

    Raises:
        LayerInvalid: `source` is no tar that a layer may be.
    """
    latest_ns = max_mtime_s * 10**9
    reader, writer = Reader(source), Writer(out, subsecond=True)
    for entry in reader:
        if check is not None:
            check()
        if entry.mtime_ns > latest_ns:
            entry = entry._replace(mtime_ns=latest_ns)
        writer.add_stream(entry, reader)
    reader.drain()
    writer.close()
