"""The builder: what a state's history comes to when it is marshalled."""

from __future__ import annotations

from knarr.errors import Span
from knarr.llb import ops
from knarr.llb.ops import Graph, SourceText
from knarr.llb.state import FileStep, Mount, Note, Process, SecretMount, SSHMount, State, given, graph, merge, source
from knarr.spec.platform import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
BASE = source("docker-image://example.com/base:1", platform=AMD64)
MAKE = FileStep(ops.MkDir("/d", 0o755))


def last(state: State, platform: Platform = AMD64) -> ops.Vertex:
    made = graph(state, platform=platform)
    assert made.root is not None
    return made.vertices[made.root.digest]


def exec_of(state: State) -> ops.ExecOp:
    op = last(state).op
    assert isinstance(op, ops.ExecOp)
    return op


def names(made: Graph) -> list[str]:
    return [v.metadata.name for v in made.vertices.values()]


def test_nothing_done_to_nothing_is_scratch() -> None:
    assert graph(State(), platform=AMD64) == Graph({}, None)


def test_a_variable_set_again_moves_to_the_end() -> None:
    state = BASE.with_env(("A", "1"), ("B", "2")).with_env(("A", "3"))

    assert exec_of(state.run(Process(("true",)))).meta.env == ("B=2", "A=3")


def test_states_do_not_change_one_another() -> None:
    first = BASE.with_env(("A", "1"))
    first.with_env(("A", "2"))

    assert exec_of(first.run(Process(("true",)))).meta.env == ("A=1",)


def test_mounts_come_in_the_order_of_their_targets() -> None:
    mounts = (Mount("/z", BASE.output), Mount("/a", tmpfs=True))

    op = exec_of(BASE.run(Process(("true",), mounts)))

    assert [mount.dest for mount in op.mounts] == ["/", "/a", "/z"]


def test_a_tree_mounted_twice_is_one_input() -> None:
    vertex = last(BASE.run(Process(("true",), (Mount("/m", BASE.output, readonly=True),))))

    assert len(vertex.inputs) == 1


def test_only_mounts_that_keep_what_is_written_are_outputs() -> None:
    mounts = (
        Mount("/bind", BASE.output, discard=True),
        Mount("/cache", cache=ops.CacheOpt("c")),
        Mount("/keep", BASE.output),
        Mount("/ro", BASE.output, readonly=True),
        Mount("/tmp", tmpfs=True),
    )

    op = exec_of(BASE.run(Process(("true",), mounts)))

    assert {m.dest: m.output for m in op.mounts} == {
        "/": 0,
        "/bind": -1,
        "/cache": -1,
        "/keep": 1,
        "/ro": -1,
        "/tmp": -1,
    }


def test_a_secret_for_a_variable_is_no_mount() -> None:
    op = exec_of(BASE.run(Process(("true",), secrets=(SecretMount("id", env="TOKEN"),))))

    assert len(op.mounts) == 1
    assert op.secret_env == (ops.SecretEnv("id", "TOKEN"),)


def test_an_agent_without_a_target_gets_one_and_is_announced() -> None:
    op = exec_of(BASE.run(Process(("true",), ssh=(SSHMount("a", "/s"), SSHMount("b")))))

    assert [m.dest for m in op.mounts] == ["/", "/s", "/run/buildkit/ssh_agent.1"]
    assert op.meta.env == ("SSH_AUTH_SOCK=/s",)


def test_a_run_takes_the_platform_of_its_tree_and_else_the_default() -> None:
    run = Process(("true",))

    assert last(BASE.run(run), ARM64).platform == AMD64
    assert last(State().run(run), ARM64).platform == ARM64


def test_files_belong_to_no_platform() -> None:
    assert last(BASE.file([MAKE])).platform is None
    assert last(source("local://context")).platform is None


def test_actions_of_one_file_op_are_a_chain() -> None:
    context = source("local://context")
    copy = FileStep(ops.Copy("/a", "/b"), context.output)

    op = last(BASE.file([copy, MAKE, copy])).op

    assert isinstance(op, ops.FileOp)
    assert [(a.input, a.secondary_input, a.output) for a in op.actions] == [(0, 1, -1), (2, -1, -1), (3, 1, 0)]


def test_files_on_nothing_have_no_input() -> None:
    op = last(State().file([MAKE])).op

    assert isinstance(op, ops.FileOp)
    assert op.actions[0].input == ops.NO_INPUT


def test_merging_with_nothing_changes_nothing() -> None:
    assert merge([State(), BASE]) is BASE
    assert merge([State(), State()]).output is None


def test_merged_trees_keep_their_order() -> None:
    upper = State().file([MAKE])
    made = graph(merge([BASE, upper]), platform=AMD64)

    assert made.root is not None
    assert [e.digest for e in made.vertices[made.root.digest].inputs] == [last(BASE).digest, last(upper).digest]


def test_equal_vertices_are_one_with_both_names_and_places() -> None:
    one = BASE.file([MAKE], Note({"a": "1", "both": "first"}, (Span("Dockerfile", 1, 1),)))
    two = BASE.file([MAKE], Note({"both": "second"}, (Span("Dockerfile", 2, 2),), ignore_cache=True))
    made = graph(merge([one, two]), platform=AMD64)

    vertex = made.vertices[last(one).digest]
    assert len(made.vertices) == 3
    assert vertex.metadata.description == {"a": "1", "both": "second"}
    assert vertex.metadata.ignore_cache
    assert [span.first for span in vertex.spans] == [1, 2]


def test_a_source_is_asked_for_its_attributes_at_the_end() -> None:
    attrs: dict[str, str] = {}
    state = source("local://context", lambda: attrs)
    attrs["local.followpaths"] = '["a"]'

    vertex = last(state)

    assert isinstance(vertex.op, ops.SourceOp)
    assert vertex.op.attrs == {"local.followpaths": '["a"]'}
    assert vertex.metadata.caps == ("source.local", "source.local.followpaths")


def test_only_pulling_always_must_be_obeyed() -> None:
    pull = source("docker-image://x", {"image.resolvemode": "pull"})
    local = source("docker-image://x", {"image.resolvemode": "local"})

    assert "source.image.resolvemode" in last(pull).metadata.caps
    assert "source.image.resolvemode" not in last(local).metadata.caps


def test_deep_states_do_not_exhaust_the_stack() -> None:
    state = BASE
    for number in range(5000):
        state = state.file([FileStep(ops.MkDir(f"/{number}", 0o755))])

    assert len(graph(state, platform=AMD64).vertices) == 5001


def test_inputs_are_made_before_what_reads_them() -> None:
    context = source("local://context", note=Note({"llb.customname": "context"}))
    base = source("docker-image://b", note=Note({"llb.customname": "base"}))
    copied = base.file([FileStep(ops.Copy("/", "/"), context.output)], Note({"llb.customname": "copy"}))

    assert names(graph(copied, platform=AMD64)) == ["base", "context", "copy"]


def test_a_graph_that_was_given_keeps_its_vertices_and_is_built_upon() -> None:
    lent = graph(BASE.file([MAKE]), platform=AMD64)
    made = graph(given(lent).run(Process(("true",))), platform=AMD64)

    assert set(lent.vertices) < set(made.vertices)
    assert made.root is not None
    assert made.vertices[made.root.digest].inputs == (lent.root,)


def test_a_place_in_another_file_of_the_same_name_is_not_taken_for_one_in_ours() -> None:
    theirs, ours = (SourceText("Dockerfile", text) for text in (b"FROM a\n", b"FROM b\n"))
    spot = Note(spans=(Span("Dockerfile", 1, 1),))
    lent = graph(BASE.file([MAKE], spot), platform=AMD64, sources=(theirs,))
    same = graph(given(lent), platform=AMD64, sources=(theirs,))
    other = graph(given(lent), platform=AMD64, sources=(ours,))

    assert lent.root is not None
    assert same.vertices[lent.root.digest].spans == spot.spans
    assert other.vertices[lent.root.digest].spans == ()
    assert other.sources == (ours,)


def test_a_given_scratch_is_scratch() -> None:
    assert given(Graph({}, None)) == State()
