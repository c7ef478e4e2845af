"""A build's results as exporters see them: see `export.trees.Trees`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from knarr.cache.record import Record, RecordId
from knarr.content.store import Store
from knarr.content.target import Fetcher
from knarr.export.trees import Layer, LayerForm
from knarr.ops.blobs import Blobs
from knarr.ops.trees import DiskTrees
from knarr.record import record
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest
from knarr.streams import Readable


@record
class ResultTrees:
    """Records on this machine, for export."""

    trees: DiskTrees
    blobs: Blobs
    store: Store

    def layers(self, tree: RecordId | None, form: LayerForm) -> Iterator[Layer]:
        chain = self.trees.chain(tree)
        changes = [self.trees.change(link) for link in chain]
        kept = _of_base(changes, form.base)
        below = {"all": 0, "new": kept}.get(form.squash, len(chain))
        top = None
        if len(chain) - below > 1:
            top = self._squashed(chain, changes, below, form)
            chain, changes = chain[:below], changes[:below]
        packed = self.blobs.pack_all(changes, form.compression, kept=kept, max_mtime_s=form.max_mtime_s)
        for link, (change, blob) in zip(chain, packed, strict=True):
            # Of a base image's layer we only know when it came here.
            created_ns = 0 if link.id.startswith("layer:") else link.created_ns or change.created_ns
            yield Layer(blob.descriptor, blob.diff_id, created_ns, change.remote)
        if top is not None:
            yield top

    def _squashed(self, chain: list[Record], changes: list[Record], below: int, form: LayerForm) -> Layer:
        """One layer in place of those above the first `below`."""
        top, lower = chain[-1].id, chain[below - 1].id if below else None
        blob = self.blobs.pack_squashed(
            chain[-1],
            lambda out: self.trees.write_difference(lower, top, out, max_mtime_s=form.max_mtime_s),
            form.compression,
            name=f"{lower}:{form.max_mtime_s}",
        )
        times = [
            link.created_ns or change.created_ns for link, change in zip(chain[below:], changes[below:], strict=True)
        ]
        return Layer(blob.descriptor, blob.diff_id, max(times), squashed=len(times))

    def mounted(self, tree: RecordId | None) -> AbstractContextManager[Path]:
        return self.trees.mounted(tree)

    def fetcher(self) -> Fetcher:
        return _Anywhere(self.store, self.blobs)


def _of_base(changes: Sequence[Record], base: Sequence[Digest]) -> int:
    """How many of the layers, from the bottom up, are the base image's."""
    same = 0
    while same < min(len(changes), len(base)) and changes[same].diff_id == base[same]:
        same += 1
    return same


@record
class _Anywhere:
    """Opens what is in the store, and fetches what is only in a registry so far."""

    store: Store
    blobs: Blobs

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        if not self.store.has(descriptor):
            self.blobs.fetch_known(descriptor)
        return self.store.open(descriptor)
