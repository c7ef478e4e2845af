"""Definitions: graphs to bytes and back, and what is refused on the way in."""

from __future__ import annotations

from contextlib import suppress
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import ContentError, Span
from knarr.llb import definition, ops
from knarr.llb.decode import decode
from knarr.llb.ops import Edge, Graph, Metadata, SourceText, Vertex
from knarr.pb import ops_pb2 as pb
from knarr.spec.digest import Digest

BASE = definition.vertex(ops.SourceOp("docker-image://example.com/base:1"))


def graph_of(*vertices: Vertex, index: int = 0, sources: tuple[SourceText, ...] = ()) -> Graph:
    return Graph({v.digest: v for v in vertices}, Edge(vertices[-1].digest, index), sources)


def merge_of(*inputs: Vertex) -> Vertex:
    return definition.vertex(ops.MergeOp(tuple(range(len(inputs)))), tuple(Edge(v.digest) for v in inputs))


def chain(length: int) -> list[Vertex]:
    vertices = [BASE]
    for _ in range(length):
        made = ops.FileOp((ops.FileAction(0, ops.MkDir("/d", 0o755), output=0),))
        vertices.append(definition.vertex(made, (Edge(vertices[-1].digest),)))
    return vertices


def message(*definitions: Any) -> bytes:
    return pb.Definition(**{"def": definitions}).SerializeToString(deterministic=True)


def pointer(digest: str, index: int = 0) -> bytes:
    return pb.Op(inputs=[pb.Input(digest=digest, index=index)]).SerializeToString(deterministic=True)


def test_a_graph_comes_back_with_names_places_and_platforms() -> None:
    said = Metadata(
        ignore_cache=True,
        description={"llb.customname": "[1/2] FROM base"},
        export_cache=False,
        caps=("source.image",),
        progress_group=ops.ProgressGroup("g", "group", weak=True),
        resources=ops.LinuxResources(1, 2, 3, 4, 5, "0-1", "0"),
    )
    base = definition.vertex(
        ops.SourceOp("docker-image://example.com/base:1"), metadata=said, spans=(Span("Dockerfile", 2, 4),)
    )
    graph = graph_of(base, merge_of(base, base), sources=(SourceText("Dockerfile", b"FROM base"),))

    assert decode(definition.encode(graph)) == graph


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
KEY = TEXT.map(lambda text: text + "\0")  # no key begins another: there the library sorts unlike Go
NUMBER = st.integers(0, 2**63 - 1)
LINE = st.integers(0, 2**31 - 1)
METADATA = st.builds(
    Metadata,
    st.booleans(),
    st.dictionaries(KEY, TEXT, max_size=3),
    st.none() | st.booleans(),
    st.lists(KEY, max_size=3).map(tuple),
    st.none() | st.builds(ops.ProgressGroup, TEXT, TEXT, st.booleans()),
    st.none() | st.builds(ops.LinuxResources, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, TEXT, TEXT),
)
SPANS = st.lists(st.builds(Span, st.sampled_from(["a", "b", "?"]), LINE, LINE, LINE), max_size=3).map(tuple)
SOURCES = st.lists(st.builds(SourceText, st.sampled_from(["a", "b"]), st.binary(max_size=4), TEXT), max_size=2)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(METADATA, SPANS), min_size=1, max_size=4), SOURCES)
def test_bytes_are_those_of_the_protobuf_library(said: list[Any], sources: list[SourceText]) -> None:
    vertices = [
        definition.vertex(ops.SourceOp(f"docker-image://{number}"), metadata=metadata, spans=spans)
        for number, (metadata, spans) in enumerate(said)
    ]

    raw = definition.encode(graph_of(*vertices, sources=tuple(sources)))

    assert raw == pb.Definition.FromString(raw).SerializeToString(deterministic=True)


def test_scratch_is_no_bytes_and_no_root() -> None:
    assert definition.encode(Graph({}, None)) == b""
    assert decode(b"") == Graph({}, None)


def test_bytes_are_the_same_every_time() -> None:
    graph = graph_of(*chain(20))

    assert definition.encode(graph) == definition.encode(decode(definition.encode(graph)))


def test_an_op_with_fields_of_a_later_version_keeps_its_digest() -> None:
    raw = BASE.raw + b"\xfa\x01\x03new"  # field 31, unknown here
    digest = Digest.of(raw)

    graph = decode(message(raw, pointer(digest)))

    assert graph.root == Edge(digest)
    assert raw in definition.encode(graph)


def test_order_in_the_bytes_does_not_matter() -> None:
    base, top = chain(1)

    graph = decode(message(top.raw, base.raw, pointer(top.digest)))

    assert list(graph.vertices) == [base.digest, top.digest]


def test_vertices_that_the_result_does_not_need_are_left_out() -> None:
    other = definition.vertex(ops.SourceOp("docker-image://example.com/other:1"))

    graph = decode(message(other.raw, BASE.raw, pointer(BASE.digest)))

    assert list(graph.vertices) == [BASE.digest]


def test_deep_graphs_do_not_exhaust_the_stack() -> None:
    graph = graph_of(*chain(5000))

    assert len(decode(definition.encode(graph)).vertices) == 5001


def test_a_thousand_vertices_take_milliseconds() -> None:
    data = definition.encode(graph_of(*chain(1000)))
    start = perf_counter()

    decode(data)

    assert perf_counter() - start < 0.5  # measured 0.025 s; the rest is for a busy machine


def test_every_line_for_itself_becomes_one_span() -> None:
    source = pb.Source(infos=[pb.SourceInfo(filename="Dockerfile", data=b"x")])
    place = source.locations[BASE.digest].locations.add(sourceIndex=0)
    for line in (3, 4, 5, 9):
        place.ranges.add(start=pb.Position(line=line), end=pb.Position(line=line))
    data = pb.Definition(**{"def": [BASE.raw, pointer(BASE.digest)], "Source": source}).SerializeToString()

    graph = decode(data)

    assert graph.vertices[BASE.digest].spans == (Span("Dockerfile", 3, 5), Span("Dockerfile", 9, 9))


def test_last_vertex_asks_for_what_the_metadata_needs() -> None:
    said = Metadata(ignore_cache=True, description={"a": "b"})
    base = definition.vertex(BASE.op, metadata=said)

    data = pb.Definition.FromString(definition.encode(graph_of(base)))

    last = data.metadata[Digest.of(pointer(base.digest))]
    assert sorted(last.caps) == ["constraints", "meta.description", "meta.ignorecache", "platform"]


TWO_OUTPUTS = ops.ExecOp(
    ops.Meta(("true",)), (ops.ExecMount("/", output=0), ops.ExecMount("/a", output=1), ops.ExecMount("/b"))
)
BAD_INPUTS = [
    ops.MergeOp((0, 1)),
    ops.MergeOp((-2,)),
    ops.DiffOp(0, 1),
    ops.BuildOp(0, {"x": 1}),
    ops.PassthroughOp("p", (1,)),
    ops.ExecOp(ops.Meta(("true",)), (ops.ExecMount("/", 1),)),
    ops.FileOp((ops.FileAction(1, ops.MkDir("/d", 0o755)),)),
    ops.FileOp((ops.FileAction(0, ops.Copy("/a", "/b"), secondary_input=1),)),
    ops.FileOp((ops.FileAction(0, ops.MkDir("/d", 0o755), output=0), ops.FileAction(2, ops.Rm("/d")))),
    ops.FileOp((ops.FileAction(0, ops.MkDir("/d", 0o755, owner=ops.ChownOpt(group=ops.UserOpt(None, "staff", 1)))),)),
]


@pytest.mark.parametrize("op", BAD_INPUTS, ids=lambda op: type(op).__name__)
def test_an_input_that_is_not_there_is_refused(op: ops.Op) -> None:
    bad = definition.vertex(op, (Edge(BASE.digest),))

    with pytest.raises(ContentError, match="reads input"):
        decode(definition.encode(graph_of(BASE, bad)))


def test_the_second_output_of_an_exec_can_be_read() -> None:
    graph = graph_of(definition.vertex(TWO_OUTPUTS), index=1)

    assert decode(definition.encode(graph)) == graph


def test_an_action_may_go_on_from_the_one_before_it() -> None:
    actions = (ops.FileAction(0, ops.MkDir("/d", 0o755)), ops.FileAction(1, ops.Rm("/d"), output=0))
    graph = graph_of(BASE, definition.vertex(ops.FileOp(actions), (Edge(BASE.digest),)))

    assert decode(definition.encode(graph)) == graph


UNKNOWN = "sha256:" + "0" * 64
BROKEN = {
    "not protobuf": (b"\xff\xff", "not an LLB definition"),
    "an op that is no op": (message(b"\xff", pointer(BASE.digest)), "not an LLB definition"),
    "no pointer at the end": (message(BASE.raw), "bare pointer"),
    "a pointer at nothing": (message(pointer(UNKNOWN)), f"lacks vertex {UNKNOWN}"),
    "a pointer that is no digest": (message(pointer("x")), "not a digest"),
    "a missing input": (message(chain(1)[1].raw, pointer(chain(1)[1].digest)), f"lacks vertex {BASE.digest}"),
    "an output that is not there": (message(BASE.raw, pointer(BASE.digest, 1)), "reads output 1"),
    "an output below zero": (message(BASE.raw, pointer(BASE.digest, -1)), "reads output -1"),
    "a vertex without op": (
        message(b"", pointer(Digest.of(b""))),
        "has no op",
    ),
}


@pytest.mark.parametrize(("data", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_definitions_are_refused(data: bytes, why: str) -> None:
    with pytest.raises(ContentError, match=why):
        decode(data)


def test_an_undefined_mount_type_is_refused() -> None:
    raw = pb.Op(exec=pb.ExecOp(mounts=[pb.Mount(dest="/", mountType=77)]))  # type: ignore[arg-type]  # what a later version may send
    data = raw.SerializeToString(deterministic=True)

    with pytest.raises(ContentError, match="not defined"):
        decode(message(data, pointer(Digest.of(data))))


def test_a_place_in_no_source_is_refused() -> None:
    source = pb.Source()
    source.locations[BASE.digest].locations.add(sourceIndex=0)
    data = pb.Definition(**{"def": [BASE.raw, pointer(BASE.digest)], "Source": source}).SerializeToString()

    with pytest.raises(ContentError, match="source 0"):
        decode(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ContentError):
        decode(data)
