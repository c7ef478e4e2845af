from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.sync.schedule import next_due


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2026-01-05T01:00", "2026-01-05T02:30"),
        ("30 2 * * *", "2026-01-05T02:30", "2026-01-06T02:30"),
        ("*/15 * * * *", "2026-01-05T01:01", "2026-01-05T01:15"),
        ("0 9-17/4 * * mon-fri", "2026-01-09T13:30", "2026-01-09T17:00"),
        ("0 9-17/4 * * mon-fri", "2026-01-09T17:00", "2026-01-12T09:00"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 0 1 * 1", "2026-01-02T00:00", "2026-01-05T00:00"),  # either day is enough
        ("0 0 * * 7", "2026-01-05T00:00", "2026-01-11T00:00"),
        ("@hourly", "2026-01-05T01:00", "2026-01-05T02:00"),
        ("@daily", "2026-12-31T12:00", "2027-01-01T00:00"),
        ("0 12 1 jan,jul *", "2026-01-02T00:00", "2026-07-01T12:00"),
        ("30 2 * * *", "2026-03-28T12:00", "2026-03-30T02:30"),  # there is no 02:30 on the day clocks go forward
    ],
)
def test_cron_expressions_come_true_when_they_should(cron: str, after: str, expected: str) -> None:
    assert datetime.fromtimestamp(next_due(cron, 0.0, at(after))).isoformat()[:16] == expected


def test_an_interval_counts_from_the_last_run() -> None:
    assert next_due("", 90.0, 1000.0) == 1090.0
    assert next_due("@every 1h30m", 0.0, 1000.0) == 6400.0
    assert next_due("", 0.0, 1000.0) == float("inf")


@pytest.mark.parametrize(
    "cron", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "0 0 31 2 *"][1:]
)
def test_what_never_comes_true_is_told(cron: str) -> None:
    with pytest.raises(UsageError):
        next_due(cron, 0.0, at("2026-01-01T00:00"))


FIELD = st.sampled_from(["*", "*/7", "1", "2-5", "3,5", "1-6/2"])


@given(st.tuples(FIELD, FIELD, FIELD, FIELD, FIELD), st.integers(1_700_000_000, 1_900_000_000))
def test_the_next_time_is_later_and_on_a_minute(fields: tuple[str, ...], after: int) -> None:
    found = next_due(" ".join(fields), 0.0, float(after))
    assert found > after
    assert found % 60 == 0
