"""rpm's SQLite database, `rpmdb.sqlite`: the headers of its table Packages."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

from knarr.sbom.tree import Tree

_HEADER = 64 << 20  # bytes of one header: that of a package of 500,000 files


def blobs(tree: Tree, path: str) -> Iterator[bytes]:
    """The header of each package.

    The database may be made to hurt: it is opened read-only, what it calls a table
    must be one (a view could count for ever), and SQLite may take only so many steps.
    """
    if not tree.is_file(path):
        return
    with ExitStack() as stack:
        place = _settled(tree, path, stack)
        if place is None:
            return
        try:
            connection = sqlite3.connect(f"file:{quote(place)}?mode=ro&immutable=1", uri=True)
            stack.callback(connection.close)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _HEADER)
            budget = iter(range(tree.limits.steps // 1000))
            connection.set_progress_handler(lambda: next(budget, None) is None, 1000)
            connection.execute("PRAGMA trusted_schema=OFF")
            kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchone()
            if kind != ("table",):
                tree.skip(path, "there is no table Packages")
                return
            for (blob,) in connection.execute("SELECT blob FROM Packages ORDER BY hnum"):
                if isinstance(blob, bytes):
                    yield blob
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            tree.skip(path, f"cannot be read as SQLite: {error}")


def _settled(tree: Tree, path: str, stack: ExitStack) -> str | None:
    """Where the database is: as it lies, or copied with its journal, in which the newest pages may be."""
    place = tree.place(path)
    journal = tree.place(f"{path}-wal")
    sizes = [os.stat(one, follow_symlinks=False).st_size if os.path.lexists(one) else 0 for one in (place, journal)]
    if sum(sizes) > tree.limits.database:
        tree.skip(path, f"larger than {tree.limits.database >> 20} MiB")
        return None
    if not sizes[1]:
        return place
    copy = os.path.join(stack.enter_context(tempfile.TemporaryDirectory(prefix="knarr-rpm-")), "rpmdb.sqlite")
    for name in ("", "-wal"):
        file = tree.open(path + name)
        if file is None:
            return None
        with file, open(copy + name, "xb") as target:
            shutil.copyfileobj(file, target)
    try:
        connection = sqlite3.connect(copy)
        try:
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()  # puts the journal into the database
        finally:
            connection.close()
    except sqlite3.Error as error:
        tree.skip(path, f"its journal cannot be read: {error}")
        return place
    return copy
