from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.cache.prune import Policy, ceiling, duration_ns, select, size_of
from knarr.cache.record import Record
from knarr.errors import UsageError
from knarr.spec.descriptor import Descriptor
from knarr.spec.digest import Digest

HOUR_NS = 3600 * 10**9
NOW_NS = 1000 * HOUR_NS
BLOB = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b""), 1000)


def record(name: str, parent: str | None = None, *, age_h: int = 1, size: int = 10, **more: Any) -> Record:
    return Record(name, parent=parent, snapshot=name, size_bytes=size, used_ns=NOW_NS - age_h * HOUR_NS, **more)


def gone(records: list[Record], policy: Policy, in_use: tuple[str, ...] = ()) -> list[str]:
    return [item.id for item in select(records, policy, now_ns=NOW_NS, in_use=in_use)]


CHAIN = [record("base", age_h=9), record("middle", "base", age_h=5), record("top", "middle", age_h=1)]


def test_children_go_before_their_parents() -> None:
    assert gone(CHAIN, Policy()) == ["top", "middle", "base"]


def test_what_is_in_use_stays_with_all_below_it() -> None:
    assert gone(CHAIN, Policy(), in_use=("middle",)) == ["top"]


def test_a_young_child_keeps_its_old_parents() -> None:
    assert gone(CHAIN, Policy(keep_duration_ns=2 * HOUR_NS)) == []


def test_the_longest_unused_go_first_until_the_rest_fits() -> None:
    records = [record("new", age_h=1), record("old", age_h=3), record("older", age_h=5)]
    assert gone(records, Policy(max_used_bytes=20)) == ["older"]
    assert gone(records, Policy(max_used_bytes=15)) == ["older", "old"]
    assert gone(records, Policy(max_used_bytes=30)) == []


def test_a_record_that_has_the_change_of_another_stays_as_long() -> None:
    records = [record("origin", age_h=9), Record("rebased", same_as="origin", used_ns=NOW_NS)]
    assert gone(records, Policy()) == ["rebased", "origin"]
    assert gone(records, Policy(), in_use=("rebased",)) == []


def test_internal_records_go_only_when_all_is_asked_for() -> None:
    records = [record("shown"), record("hidden", kind="internal")]
    assert gone(records, Policy()) == ["shown"]
    assert sorted(gone(records, Policy(all=True))) == ["hidden", "shown"]


def test_a_blob_counts_unless_a_registry_has_it() -> None:
    assert size_of(record("r", blob=BLOB)) == 1010
    assert size_of(record("r", blob=BLOB, remote=("host/a",))) == 10


FILTERED = [
    record("one", kind="source.local", description="local source", age_h=1),
    record("two", kind="exec.cachemount", description="RUN make", age_h=30),
    record("base", age_h=40),
    record("child1", "base", age_h=2),
    record("child2", "base", age_h=3),
]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("id==one",), {"one"}),
        (("id=one",), {"one"}),
        (("type!=regular",), {"one", "two"}),
        (("description~=^RUN",), {"two"}),
        (("until=24h",), {"two"}),
        (("mutable",), {"two"}),
        (("!immutable",), {"two"}),
        (("parents==base",), {"child1", "child2"}),
        (("parent==base,until=3h",), {"child2"}),
        (("id==one", "id==two"), {"one", "two"}),
        (("inuse",), set()),
        (("shared",), set()),  # base is, but children that do not match hold it
        (("private,type==regular",), {"child1", "child2"}),
    ],
)
def test_filters_choose(filters: tuple[str, ...], expected: set[str]) -> None:
    assert set(gone(FILTERED, Policy(filters=filters))) == expected


@pytest.mark.parametrize("text", ["colour==red", "until", "until=soon", "description~=(", "id==a,what", "=x"])
def test_a_filter_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        gone(FILTERED, Policy(filters=(text,)))


@pytest.mark.parametrize(
    ("text", "hours"), [("24h", 24), ("7d", 168), ("1h30m", 1.5), ("90m", 1.5), ("0.5h", 0.5), ("3600s", 1)]
)
def test_durations(text: str, hours: float) -> None:
    assert duration_ns(text) == hours * HOUR_NS


@st.composite
def forests(draw: Any) -> list[Record]:
    records: list[Record] = []
    for number in range(draw(st.integers(0, 12))):
        others = st.none() | st.sampled_from(records) if records else st.none()
        parent, same = draw(others), draw(others)
        records.append(
            record(
                f"r{number}",
                parent.id if parent else None,
                age_h=draw(st.integers(0, 9)),
                size=draw(st.integers(0, 9)),
                same_as=same.id if same else None,
            )
        )
    return records


@settings(deadline=None)
@given(forests(), st.integers(0, 60), st.integers(0, 9), st.sets(st.integers(0, 11)))
def test_what_stays_is_whole(records: list[Record], limit: int, age_h: int, used: set[int]) -> None:
    policy = Policy(keep_duration_ns=age_h * HOUR_NS, max_used_bytes=limit)
    in_use = tuple(f"r{number}" for number in used)
    order = gone(records, policy, in_use)
    stays = {item.id: item for item in records}
    for name in order:
        removed = stays.pop(name)
        assert name not in in_use
        assert NOW_NS - removed.used_ns >= policy.keep_duration_ns
        assert not any(name in (item.parent, item.same_as) for item in stays.values())
    if order:
        last = next(item for item in records if item.id == order[-1])
        assert sum(map(size_of, stays.values())) + size_of(last) > limit


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({}, None),
        ({"max_used_bytes": 30}, 30),
        ({"min_free_bytes": 60}, 90),
        ({"min_free_bytes": 10}, 100),
        ({"max_used_bytes": 95, "min_free_bytes": 60}, 90),
        ({"max_used_bytes": 30, "reserved_bytes": 50}, 50),
        ({"reserved_bytes": 50}, 50),
        ({"min_free_bytes": 500}, 0),
    ],
)
def test_limits_become_what_the_cache_may_take(limits: dict[str, int], most: int | None) -> None:
    assert ceiling(used_bytes=100, free_bytes=50, **limits) == most
