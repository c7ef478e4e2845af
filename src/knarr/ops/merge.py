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
from knarr.errors import Bug
from knarr.ops.trees import DiskTrees


def run(trees: DiskTrees, inputs: Sequence[RecordId], name: RecordId) -> RecordId:
    """The merged tree, whose topmost record is called `name`.

    Raises:
        Bug: no input at all.
    """
    if not inputs:
        raise Bug("a merge of nothing")
    below = trees.chain(inputs[0])
    links = [link for record in inputs[1:] for link in trees.chain(record)]
    if not links:
        below, links = below[:-1], below[-1:]
    top = below[-1].id if below else None
    for number, link in enumerate(links):
        last = number == len(links) - 1
        id = name if last else hashlib.sha256(f"{name}\0{number}".encode()).hexdigest()
        trees.note(Record(id, top, same_as=link.same_as or link.id, description=link.description))
        top = id
    return name
