"""Times in image documents."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import ContentError
from knarr.export.clock import nanoseconds, rfc3339


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_000_000_000, "2023-11-14T22:13:20Z"),
        (1_700_000_000_120_000_000, "2023-11-14T22:13:20.12Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
    ],
)
def test_times_are_written_as_go_writes_them(ns: int, text: str) -> None:
    assert rfc3339(ns) == text


def test_other_time_zones_are_read() -> None:
    assert nanoseconds("2023-11-15T00:13:20.5+02:00") == 1_700_000_000_500_000_000


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14", "2023-11-14T22:13:20", "2023-13-01T00:00:00Z"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(ContentError):
        nanoseconds(text)


@settings(deadline=None, max_examples=200)
@given(st.integers(min_value=0, max_value=4_000_000_000 * 10**9))
def test_times_round_trip(ns: int) -> None:
    assert nanoseconds(rfc3339(ns)) == ns
