"""Which records match: by definition, by content, by both; across caches; and never half."""

from __future__ import annotations

from typing import Any

import pytest

from knarr.cache.sharedconfig import Config, Layer, Link, Record, Result
from knarr.cache.sharedgraph import DIFF_ID, Origin, SharedGraph
from knarr.cache.sharedmatch import Matches
from knarr.llb.ops import Edge, ExecOp, Meta, SourceOp, Vertex
from knarr.solver.sharedkeys import SharedDep, SharedMap, record_digest
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

BLOB, DIFF = (Digest("sha256:" + letter * 64) for letter in "bd")
BASE, OP, CONTENT = "sha256:base", "sha256:op", "sha256:content"
base = Vertex(Digest.of(b"base"), SourceOp("docker-image://base"))
other = Vertex(Digest.of(b"other"), SourceOp("local://context"))
step = Vertex(Digest.of(b"step"), ExecOp(Meta(("true",)), ()), (Edge(base.digest), Edge(other.digest)))
STEP_MAP = SharedMap((OP,), (SharedDep("s1"), SharedDep("s2")))


def graph(*records: Record, diff_id: str = DIFF) -> SharedGraph:
    place: Any = None  # nothing is fetched
    blob = Descriptor("x", BLOB, 1, annotations={DIFF_ID: diff_id})
    return SharedGraph(Config((Layer(BLOB),), records), {BLOB: blob}, Origin("test", place))


def known_step(*results: Result, second: Link | None = None) -> tuple[Record, ...]:
    """A base, a content, and the step that was made from both."""
    links = ((Link(0, "s1"),), (second or Link(1),))
    return (
        Record(record_digest(BASE, 0)),
        Record(record_digest(CONTENT, -1)),
        Record(record_digest(OP, 0), links, results),
    )


def found(*graphs: SharedGraph, contents: dict[int, str] | None = None, ask: SharedMap = STEP_MAP) -> Any:
    matches = Matches(graphs)
    matches.source(base.digest, SharedMap((BASE, "sha256:another")))
    matches.source(other.digest, SharedMap(()))
    return matches.vertex(step, ask, [0], contents if contents is not None else {1: CONTENT})[0]


def test_definition_and_content_together_match() -> None:
    results = found(graph(*known_step(Result((0,), "now"))))
    assert [one.layers[0][1] for one in results] == [DIFF]


@pytest.mark.parametrize("contents", [{}, {1: "sha256:other"}, {0: CONTENT}])
def test_an_input_that_is_not_known_makes_a_miss(contents: dict[int, str]) -> None:
    assert found(graph(*known_step(Result((0,)))), contents=contents) is None


def test_another_selector_is_another_input() -> None:
    ask = SharedMap((OP,), (SharedDep("s0"), SharedDep("s2")))
    assert found(graph(*known_step(Result((0,)))), ask=ask) is None


def test_a_record_with_more_inputs_is_another_step() -> None:
    records = known_step(Result((0,)))
    wider = (*records[:2], Record(records[2].digest, (*records[2].inputs, (Link(0),)), records[2].results))
    assert found(graph(*wider)) is None


def test_a_key_without_a_result_matches_too() -> None:
    assert found(graph(*known_step())) == []


def test_a_layer_without_a_diff_id_is_no_result() -> None:
    assert found(graph(*known_step(Result((0,))), diff_id="?")) == []


def test_the_newest_result_of_all_caches_comes_first_within_each() -> None:
    one = graph(*known_step(Result((0,), "2024"), Result((0,), "2025")))
    assert [result.created for result in found(one)] == ["2025", "2024"]


def test_half_a_match_in_each_of_two_caches_is_none() -> None:
    left = graph(*known_step(Result((0,)), second=Link(1, "unlike")))
    right = graph(Record(record_digest(CONTENT, -1)))
    assert found(left, right) is None


def test_what_matched_leads_on_to_what_reads_it() -> None:
    records = known_step()
    reader = Record(record_digest("sha256:reader", 0), ((Link(2, "s"),),), (Result((0,)),))
    matches = Matches([graph(*records, reader)])
    matches.source(base.digest, SharedMap((BASE,)))
    matches.vertex(step, STEP_MAP, [0], {1: CONTENT})
    above = Vertex(Digest.of(b"above"), ExecOp(Meta(("true",)), ()), (Edge(step.digest),))
    answer = matches.vertex(above, SharedMap(("sha256:reader",), (SharedDep("s"),)), [0, 1], {})
    assert answer[0]
    assert answer[1] is None
    assert matches.contents(Edge(step.digest)) == {0: set(), 1: {record_digest(CONTENT, -1)}}
