"""Go's durations."""

from __future__ import annotations

import pytest

from knarr.frontend.dockerfile.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("30s", 30 * 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        (".5s", 5 * 10**8),
        ("1.s", 10**9),
        ("-2ms", -2 * 10**6),
        ("+1us", 1000),
        ("1µs1μs", 2000),
        ("0.3ns", 0),
    ],
)
def test_a_duration_is_so_many_nanoseconds(text: str, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "1 s", "1d", "--1s", "1s2", "9" * 20 + "h", "1s\n"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        parse_duration(text)
