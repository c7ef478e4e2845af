"""Versions and ranges: the order of semver.org, and the ranges of Masterminds/semver 3."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.sync.version import Range, Version

ORDER = (
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "v1.0.1",
    "1.2",
)


def version(text: str) -> Version:
    found = Version.parse(text)
    assert found is not None
    return found


def test_versions_are_ordered_as_semver_says() -> None:
    assert all(version(a) < version(b) for a, b in pairwise(ORDER))


@pytest.mark.parametrize("tag", ["latest", "bookworm", "", "1.x", "sha256-0", "1..2", "v"])
def test_other_tags_are_no_versions(tag: str) -> None:
    assert Version.parse(tag) is None


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2 <2", "1.2 1.2.0 1.9.9 v1.5", "1.1.9 2.0.0 2 1.5.0-rc.1"),
        (">= 3.12.0", "3.12.0 4.0.0", "3.11.9"),
        (">=1.0.0, <2.0.0 || >=4", "1.5.0 4.0.1", "3.0.0"),
        ("~1.4", "1.4.0 1.4.9", "1.5.0 1.3.9"),
        ("~1.4.2", "1.4.2 1.4.9", "1.4.1 1.5.0"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("1.x", "1.0.0 1.9.9", "2.0.0 0.9.0"),
        ("*", "0.0.1 99.0.0", "1.0.0-rc.1"),
        ("1.2 - 1.4", "1.2.0 1.4.9", "1.1.0 1.5.0"),
        ("1.2", "1.2.0 1.2.9", "1.3.0"),
        ("=1.2.3", "1.2.3", "1.2.4"),
        ("!=1.2.3", "1.2.4", "1.2.3"),
        (">1.2", "1.3.0", "1.2.9"),
        ("<=1.2", "1.2.9", "1.3.0"),
        (">=1.0.0-rc.1", "1.0.0-rc.2 1.0.0 1.1.0-alpha", "1.0.0-beta.1"),
        ("10.0.17763.1", "10.0.17763.1", "10.0.17763.2"),
    ],
)
def test_a_range_has_what_is_between_its_bounds(text: str, inside: str, outside: str) -> None:
    one = Range(text)
    assert [tag for tag in inside.split() if not one.has(version(tag))] == []
    assert [tag for tag in outside.split() if one.has(version(tag))] == []


@pytest.mark.parametrize("text", ["", "latest", ">=", ">=1 <", "1.2.3.a", "=>>1", "||"])
def test_what_is_no_range_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        Range(text)


@given(st.text(alphabet="0123456789.<>=~^xX*|-, v", max_size=20))
def test_any_text_is_a_range_or_a_usage_error(text: str) -> None:
    try:
        Range(text).has(version("1.2.3"))
    except UsageError:
        return
