"""The build op: solve the graph that is in a file of an input, and give its result.

Spec: BuildKit's solver/llbsolver/ops/build.go and client/llb/llbbuild.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from knarr.cache.record import RecordId
from knarr.errors import ContentError, KnarrError
from knarr.llb.ops import BuildOp, Graph
from knarr.ops.trees import DiskTrees
from knarr.ops.world import World
from knarr.paths import inside

_LLB_BUILDER = -1  # pb.LLBBuilder: no builder but the solver itself
_INPUT = _FILE = "buildkit.llb.definition"  # pb.LLBDefinitionInput and pb.LLBDefaultDefinitionFile
_FILENAME = "llbbuild.filename"  # pb.AttrLLBDefinitionFilename
_MAX_BYTES = 64 << 20  # a graph that a program wrote, and no file to fill memory with


def run(
    world: World,
    trees: DiskTrees,
    op: BuildOp,
    inputs: Sequence[RecordId],
    name: RecordId,
    evaluate: Callable[[Graph], RecordId | None],
) -> RecordId:
    """What `evaluate` makes of the graph, known as `name`.

    Raises:
        ContentError: there is no such file, or no graph in it.
        KnarrError: another builder is asked for, or the graph cannot be solved.
    """
    from knarr.llb.decode import decode

    if op.builder != _LLB_BUILDER:
        raise KnarrError("a build op can only be about LLB in a file", hint="leave its builder at -1")
    if _INPUT not in op.inputs:
        raise KnarrError(f"a build op has no input {_INPUT}", hint="it says where the file with the graph is")
    with world.trees.readable(inputs[op.inputs[_INPUT]]) as tree:
        raw = _read(tree.root, op.attrs.get(_FILENAME, _FILE))
    return trees.alias(evaluate(decode(raw)), name)


def _read(root: str, name: str) -> bytes:
    path = inside(root, name)
    if not os.path.isfile(path):
        raise ContentError(f"{name}: no such file with a build graph")
    with open(path, "rb") as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ContentError(f"{name}: larger than {_MAX_BYTES >> 20} MiB, so it is no build graph")
    return raw
