"""What a build may use, when rules and a judge decide together."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from knarr.engine.governor import Governor
from knarr.errors import KnarrError, UsageError
from knarr.frontend.gateway import SourceState
from knarr.frontend.sourcequestion import Answered, MoreWanted, Refused, SourceQuestion, Verdict
from knarr.llb import definition
from knarr.llb.ops import Edge, ExecMount, ExecOp, Graph, Meta, SourceOp
from knarr.llb.sourcepolicy import Rule, SourcePolicy
from knarr.scope import Scope
from knarr.spec.platform import Platform

ARM64 = Platform("linux", "arm64")
ALPINE = SourceOp("docker-image://docker.io/library/alpine:latest")
BUSYBOX = SourceOp("docker-image://docker.io/library/busybox:latest")

Says = Callable[[SourceOp, Answered | None], Verdict | MoreWanted]


class Scripted:
    """A judge that says what a test wants, and notes what it was asked."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.asked: list[tuple[str, Platform]] = []

    def judge(self, source: SourceOp, platform: Platform, known: Answered | None) -> Verdict | MoreWanted:
        self.asked.append((source.identifier, platform))
        return self.says(source, known)


def governed(says: Says) -> tuple[Governor, Scripted]:
    governor = Governor(Scope(), lambda op, question: SourceState(digest=f"of {op.identifier}"))
    judge = governor.judge = Scripted(says)
    return governor, judge


def test_a_source_is_judged_once_by_its_whole_name_and_platform() -> None:
    governor, judge = governed(lambda source, known: Verdict())
    for _ in range(2):
        assert governor.source(SourceOp("docker-image://alpine"), ARM64) == SourceOp("docker-image://alpine")
    assert judge.asked == [(ALPINE.identifier, ARM64)]


def test_a_judge_learns_what_it_wants_to_know_first() -> None:
    seen: list[SourceState] = []

    def says(source: SourceOp, known: Answered | None) -> Verdict | MoreWanted:
        if known is None:
            return MoreWanted(source, SourceQuestion(chain=True))
        assert known.question.chain
        seen.append(known.state)
        return Verdict()

    governor, _ = governed(says)
    assert governor.source(ALPINE) == ALPINE
    assert [state.digest for state in seen] == [f"of {ALPINE.identifier}"]


def test_what_takes_a_source_s_place_is_judged_as_well_and_obeys_the_rules() -> None:
    governor, judge = governed(
        lambda source, known: Verdict(instead=BUSYBOX) if "alpine" in source.identifier else Verdict()
    )
    assert governor.source(ALPINE) == BUSYBOX
    assert governor.source(BUSYBOX) == BUSYBOX
    assert [identifier for identifier, _ in judge.asked] == [ALPINE.identifier, BUSYBOX.identifier]
    governor, _ = governed(lambda source, known: Verdict(instead=BUSYBOX))
    governor.policies = (SourcePolicy((Rule("DENY", BUSYBOX.identifier),)),)
    with pytest.raises(KnarrError, match="source denied by policy"):
        governor.source(ALPINE)


def test_a_refusal_names_the_source_and_keeps_the_reasons() -> None:
    governor, _ = governed(lambda source, known: Verdict(False, reasons=("no", "never")))
    with pytest.raises(Refused, match="not allowed by policy") as caught:
        governor.source(ALPINE)
    assert ALPINE.identifier in caught.value.message
    assert caught.value.reasons == ("no", "never")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Verdict(instead=ALPINE), "too many policy requests"),
        (MoreWanted(ALPINE, SourceQuestion()), "too many policy requests"),
        (MoreWanted(BUSYBOX, SourceQuestion()), "different source identifier"),
        (MoreWanted(SourceOp(ALPINE.identifier, {"a": "b"}), SourceQuestion()), "different source attrs"),
    ],
)
def test_a_judge_that_comes_to_no_verdict_is_told_so(answer: Verdict | MoreWanted, message: str) -> None:
    governor, judge = governed(lambda source, known: answer)
    with pytest.raises((UsageError, KnarrError), match=message):
        governor.source(ALPINE)
    assert len(judge.asked) <= 10


def test_the_sources_of_a_graph_are_judged_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    def says(source: SourceOp, known: Answered | None) -> Verdict:
        both.wait()
        return Verdict()

    governor, _ = governed(says)
    one, other = definition.vertex(ALPINE), definition.vertex(BUSYBOX)
    mounts = (ExecMount(dest="/", input=0, output=0), ExecMount(dest="/b", input=1))
    step = definition.vertex(ExecOp(Meta(("true",)), mounts), (Edge(one.digest), Edge(other.digest)))
    graph = Graph({one.digest: one, other.digest: other, step.digest: step}, Edge(step.digest))
    assert governor.graph(graph) is graph
