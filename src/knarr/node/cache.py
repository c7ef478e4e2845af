"""The cache directory of node builds: what was fetched, by its sha256, and what was resolved.

A file is visible only when it is complete and its checksum is right: a build that
was killed leaves drafts, which the next one removes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from knarr import disk
from knarr.errors import ContentError, DigestMismatch, UsageError
from knarr.streams import CHUNK


class Cache:
    """`root/sha256/<hex>` are files, `root/resolved/<name>.json` what was found out."""

    def __init__(self, root: Path) -> None:
        """Raises UsageError: the directory cannot be used."""
        self.root = root
        self._drafts = root / "drafts"
        self._good: set[str] = set()
        try:
            for directory in (root / "sha256", root / "resolved", self._drafts):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{root}: not a directory to keep things in: {error.strerror}") from error

    def path(self, sha256: str) -> Path:
        return self.root / "sha256" / sha256

    def has(self, sha256: str) -> bool:
        """Whether a file is there, and still what it was: one that is not is removed. Each is read once."""
        if sha256 not in self._good:
            try:
                with open(self.path(sha256), "rb") as stream:
                    found = digest_of(stream)
            except OSError:
                return False
            if found != sha256:
                self.path(sha256).unlink(missing_ok=True)
                return False
            self._good.add(sha256)
        return True

    @contextmanager
    def draft(self, what: str) -> Iterator[Path]:
        """A directory for what is not complete yet; it is gone afterwards. A full disk is told as one."""
        import shutil

        place = self._drafts / f"{os.getpid()}-{os.urandom(4).hex()}"
        place.mkdir()
        try:
            yield place
        except OSError as error:
            if disk.lacks_room(error):
                raise ContentError(
                    f"{what}: no space left on the disk that holds {self.root}", hint="--cache DIR on a larger disk"
                ) from error
            raise
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def sweep(self) -> None:
        """Remove drafts of processes that are no more."""
        import shutil

        for place in self._drafts.iterdir():
            pid = place.name.partition("-")[0]
            if not os.path.exists(f"/proc/{pid}"):
                shutil.rmtree(place, ignore_errors=True)

    def take(self, file: Path, sha256: str, what: str) -> None:
        """Make a finished `file` (in a draft) one of the cache's.

        Raises:
            DigestMismatch: it is another one.
        """
        with open(file, "rb") as stream:
            found = digest_of(stream)
            os.fsync(stream.fileno())
        if found != sha256:
            raise DigestMismatch(
                f"{what}: its sha256 is {found}, but {sha256} is expected",
                hint="whoever serves it has another file than its makers published, or it was cut on the way",
            )
        os.replace(file, self.path(sha256))
        self._good.add(sha256)

    def recall(self, name: str) -> Any:
        """What `remember` was given under `name`, or None."""
        try:
            return json.loads((self.root / "resolved" / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None

    def remember(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        with self.draft("what was resolved") as place:
            (place / "value").write_text(json.dumps(value, indent=1))
            os.replace(place / "value", self.root / "resolved" / f"{name}.json")


def digest_of(stream: BinaryIO) -> str:
    """The sha256 of the rest of a stream, in hexadecimal."""
    digest = hashlib.sha256()
    while data := stream.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()
