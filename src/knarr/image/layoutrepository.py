"""An OCI layout in a directory as a destination: what a repository of a registry without the referrers API is.

Entries carry the tag alone, as skopeo, crane and oras write it; a list of
referrers is an index under the referrers tag, which regclient and oras read.
Several processes may write: `index.json` changes under a lock of the directory.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knarr.content.target import Report
from knarr.errors import KnarrError
from knarr.image.layout import REF_NAME, Layout, blob_path
from knarr.image.listed import Listed, tags_of
from knarr.image.successors import is_document
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.spec.manifest import decode, encode_index
from knarr.spec.referrers import entry as entry_of
from knarr.spec.referrers import fallback_tag
from knarr.streams import CHUNK, Readable

Change = Callable[[list[Descriptor]], list[Descriptor]]


class LayoutRepository(Listed):
    """The layout at `root`, for reading and writing."""

    def __init__(self, root: Path, layout: Layout) -> None:
        super().__init__(f"layout {root}", layout, ())
        self._root = root
        self._layout = layout
        self._lock = threading.Lock()

    @classmethod
    def at(cls, root: Path) -> LayoutRepository:
        """The layout that is at `root`.

        Raises:
            NotFound, ContentError: there is none, or of a version we do not know.
        """
        return cls(root, Layout.at(root))

    @classmethod
    def create(cls, root: Path) -> LayoutRepository:
        """The layout at `root`, made if there is none.

        Raises:
            KnarrError: the directory cannot be made or written.
        """
        try:
            return cls(root, Layout.create(root))
        except OSError as error:
            raise KnarrError(f"{error.filename or root}: {error.strerror}") from error

    def entries(self) -> tuple[Descriptor, ...]:
        return self._layout.entries()

    def push(self, descriptor: Descriptor, content: Readable, *, report: Report | None = None) -> None:
        """Store a blob, or a document without a name."""
        if is_document(descriptor.media_type):
            self.push_manifest(descriptor, b"".join(iter(lambda: content.read(CHUNK), b"")))
            return
        self._layout.push(descriptor, content, report=report)

    def push_manifest(self, descriptor: Descriptor, raw: bytes, *, tag: str = "") -> None:
        """Store a document; under a tag it takes the place of what had that tag.

        One with a subject is listed under that subject's referrers tag.
        """
        if not self._layout.has(descriptor):
            self._layout.push(descriptor.bare(), io.BytesIO(raw))
        document = decode(raw, descriptor.media_type)
        if document.subject is not None:
            self._list(document.subject.digest, entry_of(document))
        if tag:
            named = descriptor.bare().with_annotations({REF_NAME: tag})
            self._change(lambda entries: [*(entry for entry in entries if tag not in tags_of(entry)), named])

    def delete_tag(self, tag: str) -> bool:
        """Take a tag away; what it named stays. False: there was none."""
        found = False

        def without(entries: list[Descriptor]) -> list[Descriptor]:
            nonlocal found
            left = [entry for entry in entries if tag not in tags_of(entry)]
            found = len(left) < len(entries)
            return left

        self._change(without)
        return found

    def _list(self, subject: Digest, referrer: Descriptor) -> None:
        tag = fallback_tag(subject)

        def change(entries: list[Descriptor]) -> list[Descriptor]:
            present = self.fallback(subject)
            if any(entry.digest == referrer.digest for entry in present):
                return entries
            index = encode_index([*present, referrer])
            self._layout.push(index.descriptor.bare(), io.BytesIO(index.raw))
            old = [entry for entry in entries if tag in tags_of(entry)]
            kept = [entry for entry in entries if entry not in old]
            for entry in old:
                if all(other.digest != entry.digest for other in kept):
                    with suppress(FileNotFoundError):
                        os.unlink(self._root / blob_path(entry.digest))  # a list that another one replaces
            return [*kept, index.descriptor.bare().with_annotations({REF_NAME: tag})]

        self._change(change)

    def _change(self, change: Change) -> None:
        with self._lock, self._alone():
            before = list(self._layout.entries())
            after = change(before)
            if after != before:
                self._layout.write_entries(after)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process changes the list meanwhile."""
        import fcntl

        directory = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield
        finally:
            os.close(directory)
