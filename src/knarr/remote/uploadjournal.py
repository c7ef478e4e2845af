"""Uploads that are under way, on disk: a process that comes after one that died goes on where that one was.

One file per blob and repository, with the URL that the registry gave to the
upload. Its lock is held while somebody uploads: who finds it held begins an upload
of its own. The URL may carry a secret, so only the user may read the file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from knarr.errors import RegistryError
from knarr.remote import url
from knarr.remote.url import Url

_KEPT_S = 7 * 86_400  # distribution forgets an idle upload after 168 h


class Entry:
    """One upload's place in the journal; valid inside its `with` block."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path, self._fd = path, descriptor
        self._finished = False

    @property
    def location(self) -> Url | None:
        """Where an upload that did not end can be gone on with."""
        if time.time() - os.fstat(self._fd).st_mtime > _KEPT_S:
            return None
        text = os.pread(self._fd, 1 << 16, 0).decode(errors="replace")
        try:
            return url.parse(text) if text else None
        except RegistryError:
            return None

    def note(self, location: Url) -> None:
        """The upload is at `location` now."""
        data = str(location).encode()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def finish(self) -> None:
        """There is nothing to go on with any more."""
        self._finished = True

    def close(self) -> None:
        if self._finished or not os.fstat(self._fd).st_size:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        os.close(self._fd)


@contextmanager
def entry(directory: str, *key: str) -> Iterator[Entry | None]:
    """The place of the upload that `key` names, or None: another process is at it, or the disk takes no note.

    An upload works without its journal; it only cannot be gone on with.
    """
    found = _open(directory, key)
    try:
        yield found
    finally:
        if found is not None:
            found.close()


def _open(directory: str, key: tuple[str, ...]) -> Entry | None:
    name = hashlib.sha256("\n".join(key).encode()).hexdigest()
    path = os.path.join(directory, name)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else its last owner finished and took the name away
            return Entry(path, descriptor)
    except OSError:
        pass
    os.close(descriptor)
    return None
