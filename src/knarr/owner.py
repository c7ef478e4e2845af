"""Who is alive: a process's claim on what it would leave behind if it were killed.

An owner is a file under a directory, locked for as long as the process lives.
The kernel drops the lock at any death, kill -9 included; a process number that
is used again or means another process in another container cannot deceive it.

    owner = Owner.claim(root / "owners")     # once per process and root
    ... things are recorded under owner.token ...
    for token in Owner.dead(root / "owners"):
        remove_what_it_left(token)
        Owner.forget(root / "owners", token)
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEWBORN_S = 60


class Owner:
    """This process's own claim. `token` is a short name, safe in paths and never used twice."""

    def __init__(self, token: str, descriptor: int) -> None:
        self.token = token
        self._descriptor = descriptor
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        """False in a forked child: the claim stays the parent's, the child needs its own."""
        return self._pid == os.getpid()

    @classmethod
    def claim(cls, directory: Path) -> Owner:
        """A new claim under `directory` (made if missing), held until the process ends or `release`."""
        os.makedirs(directory, mode=0o711, exist_ok=True)
        token = os.urandom(6).hex()
        path = os.path.join(directory, token)
        # Locked before it is visible, so that nobody can take a newborn for dead.
        try:
            descriptor = _nameless(directory, path)
        except OSError:  # a file system without nameless files, or no /proc
            draft = os.path.join(directory, "." + token)
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.rename(draft, path)
        return cls(token, descriptor)

    def release(self) -> None:
        """Give the claim up: what is still recorded under the token counts as left behind."""
        os.close(self._descriptor)

    @staticmethod
    def oldest_living_ns(directory: Path) -> int | None:
        """When the oldest claim under `directory` that is still held was made (ns since the epoch); None: none is."""
        dead = set(Owner.dead(directory))
        found: list[int] = []
        for token in os.listdir(directory) if directory.is_dir() else ():
            if token not in dead:
                try:
                    found.append(os.stat(directory / token).st_mtime_ns)
                except FileNotFoundError:
                    continue
        return min(found, default=None)

    @staticmethod
    def dead(directory: Path) -> list[str]:
        """The tokens under `directory` whose process has ended."""
        try:
            tokens = os.listdir(directory)
        except FileNotFoundError:
            return []
        for draft in (token for token in tokens if token.startswith(".")):
            _remove_old_draft(os.path.join(directory, draft))
        visible = [token for token in tokens if not token.startswith(".")]
        return [token for token in visible if not _is_locked(os.path.join(directory, token))]

    @staticmethod
    def forget(directory: Path, token: str) -> None:
        """Remove the record of a dead owner, last of all, when nothing of it is left."""
        try:
            os.unlink(os.path.join(directory, token))
        except FileNotFoundError:
            return


def _nameless(directory: Path, path: str) -> int:
    """A locked file that got its name `path` last: a kill at any moment leaves nothing, or a dead claim."""
    descriptor = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Given a directory's descriptor, Python calls linkat, which can follow the link (open(2), O_TMPFILE).
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_old_draft(path: str) -> None:
    """Remove a claim whose maker was killed before it had a name; a newborn is not locked yet, but young."""
    try:
        if os.stat(path).st_mtime < time.time() - _NEWBORN_S and not _is_locked(path):
            os.unlink(path)
    except FileNotFoundError:
        return


def _is_locked(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # another sweeper was faster: nothing left to do for this one
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def owned_directory(place: Path) -> Iterator[Path]:
    """A new directory below `place` (made if missing) for the time of the block; those of the dead are removed, too."""
    from shutil import rmtree

    owners = place / "owners"
    for token in Owner.dead(owners):
        rmtree(place / token, ignore_errors=True)
        Owner.forget(owners, token)
    owner = Owner.claim(owners)
    directory = place / owner.token
    directory.mkdir(mode=0o700)
    try:
        yield directory
    finally:
        rmtree(directory, ignore_errors=True)
        Owner.forget(owners, owner.token)
        owner.release()


def remove_abandoned(path: str) -> int:
    """Remove a file that its maker keeps locked, unless the maker lives; returns the bytes freed.

    A maker that locks its file only after making it must look whether it is still there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)  # while it is locked, so that who locks it next sees that it is gone
        return os.fstat(descriptor).st_size
    except (BlockingIOError, FileNotFoundError):
        return 0
    finally:
        os.close(descriptor)
