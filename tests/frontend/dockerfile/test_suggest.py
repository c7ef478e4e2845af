"""Near misses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.frontend.dockerfile.suggest import did_you_mean, edit_distance, nearest

KEYWORDS = ("COPY", "ADD", "CMD", "ENTRYPOINT", "WORKDIR")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("COYP", "COPY"), ("copt", "copy"), ("ENTRYPONT", "ENTRYPOINT"), ("WROKDIR", "WORKDIR"), ("XYZZY", "")],
)
def test_the_nearest_keyword_is_meant(word: str, meant: str) -> None:
    assert nearest(word, KEYWORDS, ignore_case=True) == meant


def test_case_counts_unless_told_otherwise() -> None:
    assert nearest("CHOWN", ("chown",)) == ""
    assert nearest("chwon", ("chown", "chmod")) == "chown"


def test_a_name_that_is_right_has_no_near_miss() -> None:
    assert did_you_mean("chown", ("chown", "chmod")) == ""


@given(st.text(alphabet="abc", max_size=6), st.text(alphabet="abc", max_size=6))
@settings(deadline=None, max_examples=300)
def test_the_distance_is_a_metric_cut_at_the_limit(left: str, right: str) -> None:
    distance = edit_distance(left, right, limit=100)
    assert distance == edit_distance(right, left, limit=100)
    assert (distance == 0) == (left == right)
    assert abs(len(left) - len(right)) <= distance <= max(len(left), len(right))
    assert edit_distance(left, right, limit=2) == min(distance, 2)
