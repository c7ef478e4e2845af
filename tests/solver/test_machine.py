from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import Bug
from knarr.llb.ops import Edge, ExecMount, ExecOp, Graph, Meta, Vertex
from knarr.solver import messages as m
from knarr.solver.graph import SolverGraph, merge
from knarr.solver.machine import Machine
from knarr.solver.messages import Fate

NewWorld = Callable[..., Any]


class App:
    """FROM base; COPY src; RUN make; and a second stage that copies what was made."""

    def __init__(self, kit: Any, *, goal: str = "final", ignore: str = "", env: tuple[str, ...] = ()) -> None:
        self.base, self.context = kit.image("base"), kit.local("context")
        self.source = kit.copy(self.context, self.base, "/src", "/app")
        self.made = kit.run("make", self.source, env=env, ignore_cache=ignore == "made")
        self.final = kit.copy(self.made, self.base, "/app", "/srv")
        self.last = kit.run("check", self.final)
        vertices = [self.base, self.context, self.source, self.made, self.final, self.last]
        self.graph: SolverGraph = merge([kit.graph(vertices, getattr(self, goal))])


@pytest.fixture
def world(new_world: NewWorld) -> Any:
    tree = {"/src/a.c": "a", "/src/b.c": "b", "/README": "read me"}
    return new_world(sources={"docker-image://base": {"/bin/sh": "sh"}, "local://context": tree})


def truth_of(kit: Any, world: Any, app: App) -> Any:
    return kit.truth(app.graph, world.sources)[app.graph.goals[0]]


def test_a_first_build_makes_everything_once(kit: Any, world: Any) -> None:
    app = App(kit)
    machine = world.build(app.graph)
    assert world.executed == [app.context.digest, app.source.digest, app.made.digest, app.final.digest]
    assert world.tree(machine, app.graph.goals[0]) == truth_of(kit, world, app)


def test_a_second_build_makes_nothing(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    machine = world.build(app.graph)
    assert world.executed == [app.context.digest]  # the session's directory, which is looked at and not built
    assert world.cached == [app.source.digest, app.made.digest, app.final.digest]
    assert machine.fates()[app.base.digest] == Fate.NOT_NEEDED
    assert [type(i) for i in world.asked].count(m.Load) == 1  # the goal


def test_a_hit_on_the_goal_loads_no_input(kit: Any, world: Any) -> None:
    app = App(kit, goal="last")
    world.build(app.graph)
    world.build(app.graph)
    loads = [i for i in world.asked if isinstance(i, m.Load)]
    assert [load.edge.digest for load in loads if load.edge.digest != app.base.digest] == [app.last.digest]


def test_an_unrelated_file_in_the_context_hits(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    world.sources["local://context"]["/README"] = "another text"
    world.build(app.graph)
    assert world.executed == [app.context.digest]


def test_a_changed_file_runs_what_reads_it(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    world.sources["local://context"]["/src/a.c"] = "changed"
    machine = world.build(app.graph)
    assert world.executed == [app.context.digest, app.source.digest, app.made.digest, app.final.digest]
    assert world.tree(machine, app.graph.goals[0]) == truth_of(kit, world, app)


def test_a_file_changed_back_hits_the_older_record(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    for text in ("changed", "a"):
        world.sources["local://context"]["/src/a.c"] = text
        world.build(app.graph)
    assert world.executed == [app.context.digest]


def test_a_base_retagged_with_the_same_layers_hits(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    world.sources["docker-image://base@v2"] = dict(world.sources["docker-image://base"])
    base = kit.image("base@v2")
    source = kit.copy(app.context, base, "/src", "/app")
    world.build(merge([kit.graph([base, app.context, source])]))
    assert world.cached == [source.digest]


def test_another_base_runs_everything(kit: Any, world: Any) -> None:
    app = App(kit)
    world.build(app.graph)
    world.sources["docker-image://base"] = {"/bin/sh": "a newer sh"}
    world.build(app.graph)
    assert len(world.executed) == 4


def test_equal_files_from_a_rebuilt_stage_hit_and_so_does_what_follows(kit: Any, world: Any) -> None:
    """The slow key of the copy leads to the old record, whose identity lets the fast key of the next step hit."""
    first = kit.run("one", kit.image("base"))
    world.sources["docker-image://base"]["/app/x"] = "x"

    def build(stage: Vertex) -> None:
        base = kit.image("base")
        copied = kit.copy(stage, base, "/app", "/srv")
        world.build(merge([kit.graph([base, stage, copied, kit.run("check", copied)])]))

    build(first)
    another = kit.run("two", kit.image("base"))
    build(another)
    assert world.executed == [another.digest]

    build(another)
    assert world.executed == []
    assert not any(isinstance(i, m.HashContent) for i in world.asked)  # the fast key was linked


def test_an_unused_variable_runs_the_step_but_not_the_copy_of_equal_files(kit: Any, world: Any) -> None:
    world.build(App(kit).graph)
    app = App(kit, env=("UNUSED=1",))
    world.build(app.graph)
    assert app.made.digest in world.executed
    assert app.source.digest in world.cached


def test_ignoring_the_cache_runs_the_step_again_and_caches_it_anew(kit: Any, world: Any) -> None:
    world.build(App(kit, goal="last").graph)
    anew = App(kit, goal="last", ignore="made")
    world.build(anew.graph)
    assert world.executed == [anew.context.digest, anew.made.digest]  # its files are equal: the copy hits by content

    world.build(App(kit, goal="last").graph)
    assert world.executed == [anew.context.digest]


def test_what_is_defined_by_a_step_that_ignores_the_cache_runs_too(kit: Any, world: Any) -> None:
    base = kit.image("base")
    for ignore in (False, True):
        made = kit.run("make", base, ignore_cache=ignore)
        after = kit.run("check", made)
        world.build(merge([kit.graph([base, made, after])]))
        assert world.executed == [made.digest, after.digest]


def test_a_known_step_whose_result_is_gone_is_made_again_only_if_needed(kit: Any, world: Any) -> None:
    app = App(kit, goal="last")
    machine = world.build(app.graph)
    made = machine.identity(Edge(app.made.digest))
    del world.records[made]
    machine = world.build(app.graph)
    assert world.executed == [app.context.digest]
    assert machine.fates()[app.made.digest] == Fate.CACHED  # told in the end, since nobody needed its tree

    world.sources["docker-image://base"]["/bin/more"] = "so that the final copy must run"
    goal_machine = world.build(app.graph)
    assert goal_machine.error is None
    assert app.made.digest in world.executed


def test_a_result_that_fails_to_load_is_made_again_under_its_name(kit: Any, world: Any) -> None:
    app = App(kit, goal="made")
    machine = world.build(app.graph)
    goal = app.graph.goals[0]
    record = machine.results[goal]
    world.broken.add(record)
    machine = world.build(app.graph)
    assert app.made.digest in world.executed
    assert machine.results[goal] == record
    assert machine.fates()[app.made.digest] == Fate.EXECUTED


def test_a_resolved_source_with_a_stable_key_is_fetched_once(kit: Any, world: Any) -> None:
    world.sources["git://repo"] = {"/f": "f"}
    repo, base = kit.git("repo"), kit.image("base")
    graph = merge([kit.graph([repo, base, kit.copy(repo, base, "/f", "/g")])])
    world.build(graph)
    assert repo.digest in world.executed
    world.build(graph)
    assert world.executed == []


def test_a_directory_of_the_session_as_a_goal_is_always_read(kit: Any, world: Any) -> None:
    context = kit.local("context")
    for _ in range(2):
        world.build(merge([kit.graph([context])]))
        assert world.executed == [context.digest]
        assert not any(isinstance(i, m.Query) for i in world.asked)


def test_a_step_on_a_directory_of_the_session_is_never_looked_up(kit: Any, world: Any) -> None:
    context = kit.local("context")
    step = kit.run("make", context)
    for _ in range(2):
        world.build(merge([kit.graph([context, step])]))
        assert step.digest in world.executed
    assert world.keys == {}


def test_two_vertices_that_come_to_the_same_key_are_made_once(kit: Any, world: Any) -> None:
    """Two contexts with equal files: the copies are different vertices, and one record."""
    world.sources["local://other"] = dict(world.sources["local://context"])
    base = kit.image("base")
    copies = [kit.copy(kit.local(name), base, "/src", "/app") for name in ("context", "other")]
    graphs = [kit.graph([kit.local(n), base, c], c) for n, c in zip(("context", "other"), copies, strict=True)]
    machine = world.build(merge(graphs))
    assert len([digest for digest in world.executed if digest in {c.digest for c in copies}]) == 1
    assert len(set(machine.results.values())) == 1
    assert sorted(machine.fates()[c.digest] for c in copies) == [Fate.CACHED, Fate.EXECUTED]


def test_who_takes_the_record_of_another_is_found_by_its_own_keys(kit: Any, world: Any) -> None:
    """A copy from the context and one from an image with equal files, in one build; then the latter alone."""
    base, context = kit.image("base"), kit.local("context")
    world.sources["docker-image://other"] = dict(world.sources["local://context"])
    other = kit.image("other")
    copies = [kit.copy(source, base, "/src", "/app") for source in (context, other)]
    world.build(merge([kit.graph([base, context, other, c], c) for c in copies]))
    world.build(merge([kit.graph([base, other, copies[1]])]))
    assert world.executed == []
    assert not any(isinstance(i, m.HashContent) for i in world.asked)


def test_an_equal_selection_of_a_tree_is_hashed_once(kit: Any, world: Any) -> None:
    base, context = kit.image("base"), kit.local("context")
    copies = [kit.copy(context, base, "/src", dest) for dest in ("/a", "/b")]
    world.build(merge([kit.graph([context, base, c], c) for c in copies]))
    assert [type(i) for i in world.asked].count(m.HashContent) == 1


def test_one_execution_gives_all_outputs_of_a_vertex(kit: Any, world: Any) -> None:
    base = kit.image("base")
    op = ExecOp(Meta(("make",)), (ExecMount("/", 0, output=0), ExecMount("/out", 0, output=1)))
    both = kit.vertex(op, base)
    first, second = kit.run("one", Edge(both.digest, 0)), kit.run("two", Edge(both.digest, 1))
    graph = merge([kit.graph([base, both, step], step) for step in (first, second)])
    machine = world.build(graph)
    assert world.executed.count(both.digest) == 1
    assert {goal: world.tree(machine, goal) for goal in graph.goals} == kit.truth(graph, world.sources)


def test_an_output_that_is_gone_is_made_again_while_the_other_one_is_loaded(kit: Any, world: Any) -> None:
    base = kit.image("base")
    op = ExecOp(Meta(("make",)), (ExecMount("/", 0, output=0), ExecMount("/out", 0, output=1)))
    both = kit.vertex(op, base)
    goals = [Edge(both.digest, 0), Edge(both.digest, 1)]
    graph = merge([Graph({base.digest: base, both.digest: both}, None)], goals)
    machine = world.build(graph)
    del world.records[machine.results[goals[1]]]
    machine = world.build(graph)
    assert world.executed == [both.digest]
    assert {goal: world.tree(machine, goal) for goal in goals} == kit.truth(graph, world.sources)


def test_independent_steps_come_out_together(kit: Any) -> None:
    base = kit.image("base")
    steps = [kit.run(name, base) for name in ("one", "two", "three")]
    machine = Machine(merge([kit.graph([base, step], step) for step in steps]), nonce="n")
    (resolve,) = machine.start()
    queries = machine.step(m.SourceResolved(resolve, "key", record="layer:1"))
    assert {type(i) for i in queries} == {m.Query}
    assert len(queries) == 3
    loads = [i for query in queries for i in machine.step(m.Queried(query))]
    assert [type(i) for i in loads] == [m.Load]  # of the base
    assert [type(i) for i in machine.step(m.Loaded(loads[0]))] == [m.Execute] * 3


# --- failure


def test_a_failure_cancels_and_ends_when_all_have_answered(kit: Any) -> None:
    base = kit.image("base")
    steps = [kit.run(name, base) for name in ("one", "two")]
    machine = Machine(merge([kit.graph([base, step], step) for step in steps]), nonce="n")
    (resolve,) = machine.start()
    one, two = machine.step(m.SourceResolved(resolve, "key", record="layer:1"))
    error = RuntimeError("first")
    assert machine.step(m.Failed(one, error)) == [m.Cancel()]
    assert not machine.finished
    assert machine.step(m.Failed(two, RuntimeError("second"))) == []
    assert machine.finished
    assert machine.error is error
    assert machine.results == {}


def test_a_missing_copied_file_fails_the_build(kit: Any, world: Any) -> None:
    base, context = kit.image("base"), kit.local("context")
    machine = world.build(merge([kit.graph([base, context, kit.copy(context, base, "/nope", "/x")])]))
    assert isinstance(machine.error, FileNotFoundError)


def test_nothing_is_kept_of_a_step_that_fails(kit: Any, world: Any) -> None:
    base = kit.image("base")
    failing = kit.run("fail", base)
    for _ in range(2):
        machine = world.build(merge([kit.graph([base, failing])]))
        assert str(machine.error) == "exit code 1"
    assert world.keys == {}


def test_an_answer_to_nothing_is_a_bug(kit: Any) -> None:
    machine = Machine(merge([kit.graph([kit.image("base")])]), nonce="n")
    (resolve,) = machine.start()
    machine.step(m.SourceResolved(resolve, "key", record="layer:1"))
    with pytest.raises(Bug):
        machine.step(m.SourceResolved(resolve, "key", record="layer:1"))


def test_a_machine_is_started_once(kit: Any) -> None:
    machine = Machine(merge([kit.graph([kit.image("base")])]), nonce="n")
    machine.start()
    with pytest.raises(Bug):
        machine.start()


def test_no_goals_is_a_build_that_is_done() -> None:
    machine = Machine(merge([]), nonce="n")
    assert machine.start() == []
    assert machine.finished


def test_thousands_of_steps_in_a_row_are_built(kit: Any, world: Any) -> None:
    steps = [kit.image("base")]
    for number in range(3000):
        steps.append(kit.run(f"step {number}", steps[-1]))
    graph = merge([kit.graph(steps)])
    world.build(graph)
    assert len(world.executed) == 3000
    world.build(graph)
    assert world.executed == []


# --- any graph, any order, any history

PATHS = ("/src", "/src/a.c", "/lib")


@st.composite
def recipes(draw: Any) -> list[tuple[Any, ...]]:
    """Vertices as data: each reads some of those before it."""
    size = draw(st.integers(1, 9))
    steps = []
    for number in range(size):
        before = st.integers(0, number + 1)  # the base and the two contexts come first
        what = draw(st.sampled_from(("run", "copy", "copy", "mount", "pair")))
        steps.append((what, draw(before), draw(before), draw(st.sampled_from(PATHS)), draw(st.integers(0, 2))))
    return steps


def made_of(kit: Any, recipe: list[tuple[Any, ...]], *, ignore: int, goals: int) -> SolverGraph:
    base = kit.image("base")
    contexts = [kit.local("context"), kit.local("other")]
    vertices = [base, *contexts]
    edges = [Edge(v.digest) for v in (*vertices, base)]
    for number, (what, one, two, path, number_of_env) in enumerate(recipe):
        root, other = edges[one if one not in (1, 2) else 0], edges[two + 1]
        root_mount = ExecMount("/", 0, output=0)
        if what == "run":
            made = kit.run("make", root, env=("X=" * number_of_env,), ignore_cache=number == ignore)
        elif what == "copy":
            made = kit.copy(other, root, path, f"/{number_of_env}")
        elif what == "mount":
            mounts = (root_mount, ExecMount("/m", 1, selector=path, readonly=True))
            made = kit.vertex(ExecOp(Meta(("use",)), mounts), root, other)
        else:
            mounts = (root_mount, ExecMount("/m", 1, output=1))
            made = kit.vertex(ExecOp(Meta(("pair",)), mounts), root, other, ignore_cache=number == ignore)
        vertices.append(made)
        edges.append(Edge(made.digest, 1 if what == "pair" and number_of_env else 0))
    known = {v.digest: v for v in vertices}
    return merge([Graph(known, None)], edges[-goals:])


@settings(deadline=None, max_examples=150)
@given(
    recipe=recipes(),
    seeds=st.lists(st.integers(0, 2**32), min_size=3, max_size=3),
    edits=st.lists(st.tuples(st.sampled_from(("context", "other")), st.sampled_from(PATHS)), max_size=3),
    ignore=st.integers(-1, 8),
    goals=st.integers(1, 3),
    lost=st.integers(0, 3),
)
def test_the_cache_never_changes_a_result(
    kit: Any,
    new_world: NewWorld,
    recipe: list[tuple[Any, ...]],
    seeds: list[int],
    edits: list[tuple[str, str]],
    ignore: int,
    goals: int,
    lost: int,
) -> None:
    tree = {path: path for path in ("/src/a.c", "/src/b.c", "/lib/x", "/0/f", "/1", "/2/g")}
    sources = {"docker-image://base": {**tree, "/bin/sh": "sh"}, "local://context": dict(tree)}
    sources["local://other"] = {**tree, "/lib/x": "another"}
    world = new_world(sources=sources)
    for build, seed in enumerate(seeds):
        order = random.Random(seed)
        graph = made_of(kit, recipe, ignore=ignore if build == 1 else -1, goals=goals)
        expected = kit.truth(graph, world.sources)
        machine = world.build(graph, order=order)
        assert machine.error is None
        assert {goal: world.tree(machine, goal) for goal in graph.goals} == expected
        assert len(world.executed) == len(set(world.executed))
        replayed = Machine(graph, nonce=f"build {world.builds}")
        replayed.start()
        for event in world.events:
            replayed.step(event)
        assert replayed.results == machine.results
        assert replayed.fates() == machine.fates()
        for name, path in edits:
            for file in [f for f in world.sources[f"local://{name}"] if f.startswith(path)]:
                world.sources[f"local://{name}"][file] += "!"
        for record in order.sample(sorted(world.records), min(lost, len(world.records))):
            world.records.pop(record)
            world.broken.discard(record)


@settings(deadline=None, max_examples=60)
@given(recipe=recipes(), seeds=st.lists(st.integers(0, 2**32), min_size=2, max_size=4))
def test_any_order_of_events_reaches_the_same_end(
    kit: Any, new_world: NewWorld, recipe: list[tuple[Any, ...]], seeds: list[int]
) -> None:
    tree = {path: path for path in ("/src/a.c", "/lib/x", "/0/f", "/1", "/2/g")}
    ends = set()
    for seed in seeds:
        names = ("docker-image://base", "local://context", "local://other")
        world = new_world(sources={name: dict(tree) for name in names})
        graph = made_of(kit, recipe, ignore=-1, goals=2)
        machine = world.build(graph, order=random.Random(seed))
        ends.add((tuple(machine.results.items()), frozenset(world.keys.items()), frozenset(world.records)))
    assert len(ends) == 1


@pytest.mark.parametrize("second", [False, True], ids=["cold", "warm"])
def test_a_thousand_stages_take_as_many_instructions_each_as_ten(
    kit: Any, new_world: NewWorld, *, second: bool
) -> None:
    def asked_for(stages: int) -> int:
        solver = merge([_ladder(kit, stages)])
        world = new_world(sources={"docker-image://base": {"/bin/sh": "sh"}, "local://context": {"/src/a": "a"}})
        for _ in range(1 + second):
            world.build(solver)
        return len(world.asked)

    assert asked_for(1000) - asked_for(500) == asked_for(510) - asked_for(10)


def _ladder(kit: Any, stages: int) -> Graph:
    """Each stage copies from the one before, and runs something."""
    base, context = kit.image("base"), kit.local("context")
    vertices = [base, context, kit.copy(context, base, "/src", "/x")]
    for number in range(stages):
        copied = kit.copy(vertices[-1], base, "/x", "/x")
        vertices += [copied, kit.run(f"step{number}", copied)]
    made: Graph = kit.graph(vertices)
    return made
