"""Source policies: which rule counts, what takes a source's place, and that a malformed rule never allows.

The cases are BuildKit's (sourcepolicy/*_test.go at v0.33), told anew.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from knarr.errors import UsageError
from knarr.llb import definition
from knarr.llb.decode import decode
from knarr.llb.ops import Edge, ExecMount, ExecOp, Graph, Meta, SourceOp
from knarr.llb.sourcepolicy import SourceDenied, SourcePolicy, evaluate, parse, rewritten

BUSYBOX = "docker-image://docker.io/library/busybox:latest"
ALPINE = "docker-image://docker.io/library/alpine:latest"


def policy(*rules: dict[str, Any]) -> SourcePolicy:
    return parse(json.dumps({"version": 1, "rules": rules}).encode(), "policy.json")


def rule(action: str, identifier: str, to: str | None = None, **selector: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"action": action, "selector": {"identifier": identifier, **selector}}
    return made if to is None else {**made, "updates": {"identifier": to}}


def image(name: str, **attrs: str) -> SourceOp:
    return SourceOp(f"docker-image://{name}", attrs)


@pytest.mark.parametrize(
    ("rules", "denied"),
    [
        ([], False),
        ([rule("DENY", BUSYBOX)], True),
        ([rule("DENY", ALPINE)], False),
        ([rule("DENY", "*")], True),
        ([rule("DENY", "docker-image://docker.io/*")], True),
        ([rule("DENY", "docker-image://*/busybox:*")], True),
        ([rule("DENY", "busybox")], False),
        ([rule("DENY", BUSYBOX), rule("ALLOW", BUSYBOX)], False),
        ([rule("ALLOW", BUSYBOX), rule("DENY", "*")], True),
        ([rule("DENY", "*"), rule("ALLOW", "docker-image://docker.io/library/*")], False),
        ([rule("DENY", "docker-image://docker.io/*", match_type="EXACT")], False),
        ([rule("DENY", BUSYBOX, match_type="EXACT")], True),
        ([rule("DENY", "busy.ox", match_type="REGEX")], True),
        ([rule("DENY", "^busybox", match_type="REGEX")], False),
        ([rule("DENY", BUSYBOX, match_type=2)], True),
        ([rule("DENY", BUSYBOX, matchType="EXACT")], True),
    ],
)
def test_the_last_rule_that_fits_counts(rules: list[dict[str, Any]], denied: bool) -> None:
    if denied:
        with pytest.raises(SourceDenied, match=f"source denied by policy: {BUSYBOX}"):
            evaluate((policy(*rules),), image("busybox"))
    else:
        assert evaluate((policy(*rules),), image("busybox")) == image("busybox")


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (rule("CONVERT", BUSYBOX, ALPINE), ALPINE),
        (rule("CONVERT", "docker-image://docker.io/library/*:latest", "docker-image://m.example/$1:1"), "busybox"),
        (rule("CONVERT", "docker-image://docker.io/*", "docker-image://m.example/${1}-x"), "library/busybox:latest-x"),
        (rule("CONVERT", r"library/(?P<n>\w+)", "mirror/${n}", match_type="REGEX"), "mirror/busybox"),
        (rule("CONVERT", BUSYBOX, "docker-image://m.example/$$1:1", match_type="EXACT"), "$$1"),
        (rule("CONVERT", BUSYBOX, "https://example.com/busybox.tar"), "https://example.com/busybox.tar"),
        (rule("CONVERT", ALPINE, BUSYBOX), "docker-image://busybox"),
    ],
)
def test_a_conversion_puts_another_source_in_the_place(made: dict[str, Any], found: str) -> None:
    assert found in evaluate((policy(made),), image("busybox")).identifier


@pytest.mark.parametrize(
    "op",
    [
        SourceOp("git://github.com/user/repo.git#main:absolute/path"),
        SourceOp("git://github.com/user/repo.git#main:../absolute/path"),
        SourceOp("git://github.com/user/./x/..//repo.git#main:/absolute//path/"),
        SourceOp("git://git@github.com:user/repo.git#main:absolute/path"),
        SourceOp("git://alice@github.com/user/repo.git#main:absolute/path"),
        SourceOp("git://harmless.example/x#main:absolute/path", {"git.fullurl": "https://github.com/user/repo.git"}),
        SourceOp("git://harmless.example/x#main:absolute/path", {"git.fullurl": "git@github.com:user/repo.git"}),
    ],
    ids=range(7),
)
def test_a_repository_has_one_name_whatever_way_it_is_written(op: SourceOp) -> None:
    denies = policy(rule("DENY", "git://github.com/user/repo.git#main:absolute/path", match_type="EXACT"))
    with pytest.raises(SourceDenied):
        evaluate((denies,), op)
    allows = policy(rule("ALLOW", "*"))
    assert evaluate((allows,), op) is op


def test_attributes_are_added_and_changed() -> None:
    made = {
        "action": "CONVERT",
        "selector": {"identifier": "https://example.com/*"},
        "updates": {"attrs": {"http.checksum": "sha256:abc"}},
    }
    op = evaluate((policy(made),), SourceOp("https://example.com/a", {"http.filename": "a"}))
    assert op == SourceOp("https://example.com/a", {"http.filename": "a", "http.checksum": "sha256:abc"})


def test_what_a_conversion_gives_is_looked_at_anew() -> None:
    rules = [rule("CONVERT", BUSYBOX, ALPINE), rule("DENY", ALPINE)]
    with pytest.raises(SourceDenied, match="alpine"):
        evaluate((policy(*rules),), image("busybox"))
    # A conversion takes effect before what stands behind it, and before a denial of what was asked for.
    assert evaluate((policy(rule("DENY", BUSYBOX), rules[0]),), image("busybox")).identifier == ALPINE


def test_every_policy_has_its_say() -> None:
    allows, denies = policy(rule("ALLOW", "*")), policy(rule("DENY", BUSYBOX))
    for order in ((allows, denies), (denies, allows)):
        with pytest.raises(SourceDenied):
            evaluate(order, image("busybox"))


def test_rules_that_lead_to_each_other_come_to_an_end() -> None:
    with pytest.raises(UsageError, match="too many operations"):
        evaluate((policy(rule("CONVERT", BUSYBOX, ALPINE), rule("CONVERT", ALPINE, BUSYBOX)),), image("busybox"))


@pytest.mark.parametrize(
    ("condition", "value", "found", "fits"),
    [
        ("EQUAL", "a", "a", True),
        ("EQUAL", "a", "b", False),
        ("EQUAL", "", None, True),
        ("NOTEQUAL", "a", "b", True),
        ("NOTEQUAL", "a", "a", False),
        ("NOTEQUAL", "a", None, True),
        ("MATCHES", "^a+$", "aaa", True),
        ("MATCHES", "^a+$", "b", False),
        (2, "a", "bab", True),
    ],
)
def test_constraints_look_at_attributes(condition: str | int, value: str, found: str | None, fits: bool) -> None:
    constraint = {"key": "k", "value": value, "condition": condition}
    attrs = {} if found is None else {"k": found}
    denies = policy(rule("DENY", "*", constraints=[constraint]))
    if fits:
        with pytest.raises(SourceDenied):
            evaluate((denies,), SourceOp(BUSYBOX, attrs))
    else:
        evaluate((denies,), SourceOp(BUSYBOX, attrs))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a source policy"),
        ("[]", "an object is expected"),
        ('{"rule": []}', "'rule' is not known"),
        ('{"version": 2}', "version 2 is not known"),
        ('{"rules": {}}', "rules must be a list"),
        ('{"rules": [{"acton": "DENY", "selector": {"identifier": "*"}}]}', "rule 1: 'acton' is not known"),
        ('{"rules": [{"action": "DENIED", "selector": {"identifier": "*"}}]}', "'DENIED' is not known"),
        ('{"rules": [{"action": 7, "selector": {"identifier": "*"}}]}', "7 is not known"),
        ('{"rules": [{"action": "DENY"}]}', "an object is expected, with identifier"),
        ('{"rules": [{"action": "CONVERT", "selector": {"identifier": "*"}}]}', "missing destination for convert rule"),
        ('{"rules": [{"selector": {"identifier": "(", "match_type": "REGEX"}}]}', "no regular expression"),
        ('{"rules": [{"selector": {"identifier": "a**"}}]}', "** is no wildcard"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text.encode(), "policy.json")
    assert says in caught.value.message


def graph() -> Graph:
    base = definition.vertex(image("docker.io/library/busybox:latest"))
    step = definition.vertex(ExecOp(Meta(("true",)), (ExecMount(dest="/", input=0, output=0),)), (Edge(base.digest),))
    return Graph({base.digest: base, step.digest: step}, Edge(step.digest))


def test_what_reads_a_changed_source_changes_with_it() -> None:
    before = graph()
    source = next(digest for digest, vertex in before.vertices.items() if isinstance(vertex.op, SourceOp))
    after = rewritten(before, {source: SourceOp(ALPINE)})
    assert after.root != before.root
    read = decode(definition.encode(after))
    assert {v.op.identifier for v in read.vertices.values() if isinstance(v.op, SourceOp)} == {ALPINE}
    assert read.root == after.root


def test_a_graph_that_no_rule_touches_stays_the_same() -> None:
    before = graph()
    kept = {digest: vertex.op for digest, vertex in before.vertices.items() if isinstance(vertex.op, SourceOp)}
    assert rewritten(before, kept) is before
