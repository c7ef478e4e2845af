"""The merge op: lay trees over one another without copying them.

The first input stays as it is; each link of the others is *rebased*: a new
record with the same change on top of the chain so far. Its blob is the original's
(the layer of `COPY --link` is the same whatever lies below), and its snapshot is
made only when someone mounts it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from knarr.cache.record import Record, RecordId
from knarr.llb.ops import MergeOp
from knarr.ops.trees import DiskTrees


def run(trees: DiskTrees, op: MergeOp, inputs: Sequence[RecordId], name: RecordId) -> RecordId:
    """The merged tree, whose topmost record is called `name`."""
    below, *above = (trees.chain(trees.kept(inputs[index])) for index in op.inputs)
    links = [link for chain in above for link in chain]
    if not links:
        return trees.alias(below[-1].id if below else None, name)
    return rebase(trees, links, below[-1].id if below else None, name)


def rebase(trees: DiskTrees, links: Sequence[Record], top: RecordId | None, name: RecordId) -> RecordId:
    """The changes of `links` on top of `top`; the last of the new records is called `name`."""
    for number, link in enumerate(links):
        last = number == len(links) - 1
        id = name if last else hashlib.sha256(f"{name}\0{number}".encode()).hexdigest()
        trees.note(Record(id, top, same_as=link.same_as or link.id, description=link.description))
        top = id
    return name
