from __future__ import annotations

from typing import Any

import pytest

from knarr.errors import KnarrError
from knarr.llb.ops import Edge, Graph, MergeOp
from knarr.record import replace
from knarr.solver.graph import base_edges, layers_of_goals, merge, on_platform
from knarr.solver.keys import cache_map
from knarr.spec.digest import Digest
from knarr.spec.platform import Platform


def test_platforms_share_equal_vertices(kit: Any) -> None:
    context, base = kit.local("context"), kit.image("base")
    one, two = kit.copy(context, base, "/a", "/a"), kit.copy(context, base, "/b", "/b")

    merged = merge([kit.graph([context, base, one]), kit.graph([context, base, two])])

    assert len(merged.vertices) == 4
    assert merged.goals == (Edge(one.digest), Edge(two.digest))
    assert merged.consumers[context.digest] == (one.digest, two.digest)


def test_inputs_come_before_their_consumers(kit: Any) -> None:
    base = kit.image("base")
    made = kit.run("make", base)
    last = kit.copy(made, base, "/out", "/out")

    order = list(merge([kit.graph([last, made, base], last)]).vertices)

    assert order.index(base.digest) < order.index(made.digest) < order.index(last.digest)


def test_what_no_goal_reads_is_left_out(kit: Any) -> None:
    base = kit.image("base")
    unused, wanted = kit.run("unused", base), kit.run("wanted", base)

    merged = merge([kit.graph([base, unused, wanted])])

    assert unused.digest not in merged.vertices
    assert merged.outputs == {base.digest: (0,), wanted.digest: (0,)}


def test_ignoring_the_cache_wins_when_graphs_disagree(kit: Any) -> None:
    base = kit.image("base")
    plain, anew = kit.run("make", base), kit.run("make", base, ignore_cache=True)
    assert plain.digest == anew.digest

    merged = merge([kit.graph([base, plain]), kit.graph([base, anew])])

    assert merged.vertices[plain.digest].metadata.ignore_cache


def test_ten_thousand_steps_in_a_row_are_ordered(kit: Any) -> None:
    steps = [kit.image("base")]
    for number in range(10_000):
        steps.append(kit.run(f"step {number}", steps[-1]))

    assert list(merge([kit.graph(steps)]).vertices) == [step.digest for step in steps]


def test_a_scratch_root_is_no_goal() -> None:
    assert merge([Graph({}, None)]).goals == ()


def test_an_edge_to_nowhere_is_refused(kit: Any) -> None:
    step = kit.run("make", kit.image("base"))
    with pytest.raises(KnarrError, match="not in it"):
        merge([kit.graph([step])])


def test_a_circle_is_refused(kit: Any) -> None:
    name = Digest.of(b"circle")
    looped = kit.run("make", Edge(name))
    graph = Graph({name: looped}, Edge(name))
    with pytest.raises(KnarrError, match="circle"):
        merge([graph])


def test_a_process_without_a_platform_is_one_of_this_machine(kit: Any) -> None:
    arm, intel = Platform.parse("linux/arm64"), Platform.parse("linux/amd64")
    base = kit.image("base")
    bare = replace(kit.run("make", base), platform=None)
    copied = kit.copy(bare, base, "/out", "/out")
    graph = merge([kit.graph([base, bare, copied])])

    here, there = on_platform(graph, intel), on_platform(graph, arm)

    assert here.vertices[bare.digest].platform == intel
    assert here.vertices[copied.digest] is graph.vertices[copied.digest]
    assert cache_map(here.vertices[bare.digest]) != cache_map(there.vertices[bare.digest])
    assert on_platform(here, arm) is here


def test_layers_of_a_goal_are_what_it_starts_from_and_not_what_it_reads(kit: Any) -> None:
    base, other, files = kit.image("base"), kit.image("other"), kit.local("context")
    made = kit.run("make", other)
    first = kit.copy(files, base, "/a", "/a")
    second = kit.copy(made, first, "/out", "/out")
    last = kit.run("use", second)
    graph = merge([kit.graph([base, other, files, made, first, second, last])])
    assert layers_of_goals(graph) == {vertex.digest for vertex in (base, first, second, last)}


def test_every_input_of_a_merge_is_a_layer_of_it(kit: Any) -> None:
    lower, upper = kit.image("lower"), kit.run("make", kit.image("upper"))
    both = kit.vertex(MergeOp((0, 1)), lower, upper)
    assert base_edges(both) == both.inputs
