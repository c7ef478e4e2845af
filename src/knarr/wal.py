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
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

_SWITCH_S = 10.0  # the switch takes a millisecond; a busy disk makes it a second
_WAL_BYTES = 1 << 20  # who opens the file first reads the WAL, 1 ms for so much


def switch_to(connection: sqlite3.Connection) -> None:
    """Put the database of `connection` into WAL mode, waiting for others who open it for the first time as well.

    SQLite's busy timeout does not hold for this switch: of two at once, one is refused at once.

    Raises:
        sqlite3.OperationalError: it is still refused after 10 s, or fails for another reason.
    """
    import sqlite3

    deadline = time.monotonic() + _SWITCH_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(0.005)


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
