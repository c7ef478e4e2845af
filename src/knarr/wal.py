"""How an SQLite file in WAL mode is closed without waiting for the disk, and whether it is sound.

The last connection that closes checkpoints the WAL and deletes it: two fsyncs, and
two more for a fresh one with the next command (3 ms in all, 15 on a busy disk; 0.6
without). One that may only read leaves it, and so it goes last. Python's own switch
for this, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, came with 3.12.

With `synchronous=NORMAL` this changes nothing that was promised: a power cut may
cost the last transactions, never the file.

Spec: sqlite.org/wal.html, "Persistence" and "Read-Only Databases".
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_WAL_BYTES = 1 << 20  # who opens the file first reads the WAL, 1 ms for so much


def close(connections: Iterable[sqlite3.Connection], path: Path) -> None:
    """Close the connections to `path`, and leave the WAL where it is until it has grown."""
    import sqlite3

    last: sqlite3.Connection | None = None
    with suppress(sqlite3.Error, OSError):  # then the WAL is checkpointed
        if os.path.getsize(f"{path}-wal") < _WAL_BYTES:
            last = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            last.execute("PRAGMA user_version").fetchone()  # takes part in the WAL from here
    for connection in connections:
        connection.close()
    if last is not None:
        last.close()


def is_damaged(path: Path) -> bool:
    """Whether the file is there and is no sound SQLite file."""
    import sqlite3

    if not path.exists():
        return False
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        return getattr(error, "sqlite_errorname", "") in ("SQLITE_CORRUPT", "SQLITE_NOTADB")
    finally:
        connection.close()
