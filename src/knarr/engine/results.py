"""A build's results as exporters see them: see `export.trees.Trees`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from knarr.cache.record import RecordId
from knarr.content.store import Store
from knarr.content.target import Fetcher
from knarr.export.trees import Layer
from knarr.layer.compress import Compression
from knarr.ops.blobs import Blobs
from knarr.ops.trees import DiskTrees
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.streams import Readable


@record
class ResultTrees:
    """Records on this machine, for export."""

    trees: DiskTrees
    blobs: Blobs
    store: Store

    def layers(self, tree: RecordId | None, compression: Compression) -> Iterator[Layer]:
        chain = self.trees.chain(tree)
        changes = [self.trees.change(link) for link in chain]
        packed = self.blobs.pack_all(changes, compression)
        for link, (change, blob) in zip(chain, packed, strict=True):
            yield Layer(blob.descriptor, blob.diff_id, link.created_ns or change.created_ns, change.remote)

    @contextmanager
    def mounted(self, tree: RecordId | None) -> Iterator[Path]:
        if tree is None:
            with self.trees.active(None) as empty:
                yield Path(empty.root)
        else:
            with self.trees.mounted(tree) as path:
                yield path

    def fetcher(self) -> Fetcher:
        return _Anywhere(self.store, self.blobs)


@record
class _Anywhere:
    """Opens what is in the store, and fetches what is only in a registry so far."""

    store: Store
    blobs: Blobs

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if not self.store.has(descriptor):
            self.blobs.fetch_known(descriptor)
        return self.store.open(descriptor)
