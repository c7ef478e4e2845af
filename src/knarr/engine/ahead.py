"""What comes after the steps, made ready while a step's container starts.

Starting a container takes a runtime ten milliseconds and more, in which this
process would wait: time to load the exporters, and to pack the layers below the
step, which are finished. What is made here the exporters find as if they had
made it; what fails here they will meet again, and tell.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from knarr.errors import Cancelled, KnarrError

if TYPE_CHECKING:
    from knarr.builder import Export
    from knarr.cache.record import RecordId
    from knarr.layer.compress import Compression
    from knarr.ops.blobs import Blobs
    from knarr.ops.trees import DiskTrees
    from knarr.scope import Scope


class Ahead:
    """Of one build. Safe from several threads."""

    def __init__(self, exports: Sequence[Export], trees: DiskTrees, blobs: Blobs, scope: Scope) -> None:
        self._exports = exports
        self._trees = trees
        self._blobs = blobs
        self._scope = scope
        self._lock = threading.Lock()
        self._begun = False
        self._compression: Compression | None = None
        self._packed: set[RecordId] = set()

    def make_ready(self, below: RecordId | None) -> None:
        """Load the exporters, and begin to pack `below`: a tree whose layers will be exported. Does not raise."""
        with suppress(KnarrError, Cancelled):
            with self._lock:
                if not self._begun:
                    self._begun = True
                    self._compression = _load(self._exports)
            if self._compression is not None and below is not None:
                self._scope.attempt(self._pack, below, self._compression)

    def _pack(self, tree: RecordId, compression: Compression) -> None:
        with suppress(KnarrError, OSError, Cancelled):
            for link in self._trees.chain(tree):
                with self._lock:
                    is_new = link.id not in self._packed
                    self._packed.add(link.id)
                change = self._trees.change(link)
                if is_new and change.blob is None:
                    self._blobs.pack(change, compression)


def _load(exports: Sequence[Export]) -> Compression | None:
    from knarr.export.export import make_ready

    return make_ready(exports)
