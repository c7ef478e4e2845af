"""Directories of callers, kept from build to build so that only what has changed has to be sent.

Each is known by a key of its caller. A build that uses one holds its lock; another
with the same key gets a second one meanwhile. What is in there after a crash is
only a head start: the next transfer makes it right.

    with kept.lease("context::KEY", "context") as directory:
        receive(client, wanted, directory)
        ... builds ...
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from knarr.record import record

_TREE, _LOCK, _ABOUT = "tree", "lock", "about.json"


@record
class KeptDirectory:
    """One of them, as `du` and `prune` see it. Times are ns since the epoch."""

    name: str
    what: str
    path: Path
    created_ns: int
    used_ns: int


class Kept:
    """The directories below `root`. Safe from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def lease(self, key: str, what: str) -> Iterator[Path]:
        """A directory of `key` for the time of the block, as the last build left it; removed when the block fails.

        `what` is what people call it.
        """
        base = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:24]
        number = 0
        while (held := _locked(self._root / f"{base}.{number}")) is None:
            number += 1
        place = self._root / f"{base}.{number}"
        try:
            _prepare(place, what)
            yield place / _TREE
        except BaseException:
            shutil.rmtree(place / _TREE, ignore_errors=True)
            raise
        finally:
            os.close(held)

    def scratch(self) -> BinaryIO:
        """A file on the same disk, without a name: it goes when it is closed, however that comes."""
        from tempfile import TemporaryFile

        os.makedirs(self._root, mode=0o700, exist_ok=True)
        return cast("BinaryIO", TemporaryFile(dir=self._root))

    def all(self) -> Iterator[KeptDirectory]:
        """Every directory that is here."""
        for place in sorted(self._root.iterdir()) if self._root.is_dir() else ():
            with contextlib.suppress(OSError, ValueError, KeyError):
                about = json.loads((place / _ABOUT).read_text())
                used_ns = os.stat(place / _ABOUT).st_mtime_ns
                yield KeptDirectory(place.name, about["what"], place / _TREE, about["created_ns"], used_ns)

    def remove(self, name: str) -> bool:
        """Remove one, unless a build uses it; tells whether it went."""
        place = self._root / name
        held = _locked(place)
        if held is None:
            return False
        try:
            shutil.rmtree(place, ignore_errors=True)
            return not place.exists()
        finally:
            os.close(held)


def _locked(place: Path) -> int | None:
    """A descriptor that holds the lock of `place`; None: somebody else has it."""
    while True:
        os.makedirs(place, mode=0o700, exist_ok=True)
        path = place / _LOCK
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # it was just removed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        os.close(lock)  # of one that was removed in between


def _prepare(place: Path, what: str) -> None:
    os.makedirs(place / _TREE, mode=0o700, exist_ok=True)
    about = place / _ABOUT
    if about.exists():
        os.utime(about)
    else:
        about.write_text(json.dumps({"what": what, "created_ns": time.time_ns()}))
