"""The diff op: what must be done to one tree to get another, as a tree of its own, for a merge to lay elsewhere.

Where the upper tree was made on top of the lower one, the layers that separate
them are the answer, as they are: nothing is compared, and deletions are in it as
they were made. Else the two trees are compared, which gives one layer.

Which of the two it is, is BuildKit's choice (cache/manager.go, Diff, at v0.33), so
that the layers are the same: a tree that a merge made of the lower one and a
single layer more is compared.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from knarr.cache.record import Record, RecordId
from knarr.llb.ops import NO_INPUT, DiffOp
from knarr.ops.merge import rebase
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World


def run(world: World, trees: DiskTrees, op: DiffOp, inputs: Sequence[RecordId], name: RecordId) -> RecordId:
    """The difference, whose topmost record is called `name`.

    Raises:
        ContentError: a layer is damaged, or a file has a whiteout's name.
    """
    lower = None if op.lower == NO_INPUT else trees.kept(inputs[op.lower])
    upper = None if op.upper == NO_INPUT else trees.kept(inputs[op.upper])
    if lower is None:
        return trees.alias(upper, name)
    below, above = trees.chain(lower), trees.chain(upper)
    if _changes(below) == _changes(above):
        return trees.alias(None, name)
    more = above[len(below) :]
    if more and _changes(above[: len(below)]) == _changes(below) and (len(more) > 1 or more[0].same_as is None):
        return rebase(trees, more, None, name)
    return _compared(world, trees, lower, upper, name)


def _changes(links: Sequence[Record]) -> list[RecordId]:
    return [link.same_as or link.id for link in links]


def _compared(world: World, trees: DiskTrees, lower: RecordId, upper: RecordId | None, name: RecordId) -> RecordId:
    """One layer with the difference. It has no tree yet: laid on nothing it would lose its deletions."""
    from knarr.layer.pack import pack

    made = pack(lambda out: trees.write_difference(lower, upper, out), world.store, check=world.scope.check)
    now = time.time_ns()
    trees.note(Record(name, blob=made.descriptor, diff_id=made.diff_id, created_ns=now, used_ns=now, uses=1))
    return name
