from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.sync.tagfilter import TagFilter, choose

TAGS = (
    "1.0",
    "1.1",
    "1.2",
    "1.10",
    "2.0",
    "2.0-alpine",
    "latest",
    "bookworm",
    "sha256-" + "0" * 64,
    f"sha256-{'1' * 64}.sig",
)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (TagFilter(), "1.0 1.1 1.2 1.10 2.0 2.0-alpine latest bookworm"),
        (TagFilter(include=("1.*", "latest")), "1.0 1.1 1.2 1.10 latest"),
        (TagFilter(include=("*",), exclude=("*-alpine", "b*")), "1.0 1.1 1.2 1.10 2.0 latest"),
        (TagFilter(allow=(r"1\.\d",)), "1.0 1.1 1.2"),
        (TagFilter(deny=(r"\d.*",)), "latest bookworm"),
        (TagFilter(versions=(">=1.2 <2",)), "1.2 1.10"),
        (TagFilter(exclude=("*-*",), newest=2), "1.10 2.0"),
        (TagFilter(newest=2), "2.0 2.0-alpine"),  # to semver, alpine is a pre-release
        (TagFilter(include=("1.*",), newest=1), "1.10"),
        (TagFilter(versions=("1.x",), exclude=("1.10",), newest=2), "1.1 1.2"),
    ],
)
def test_all_conditions_of_a_filter_have_to_hold(one: TagFilter, expected: str) -> None:
    assert choose([one], TAGS) == expected.split()


def test_a_tag_that_any_filter_takes_is_wanted_once_and_in_order() -> None:
    assert choose([TagFilter(include=("l*",)), TagFilter(include=("1.0", "latest"))], TAGS) == ["1.0", "latest"]


def test_what_hangs_on_digests_is_never_chosen_by_itself() -> None:
    assert not [tag for tag in choose([], TAGS) if tag.startswith("sha256-")]


@pytest.mark.parametrize("one", [TagFilter(allow=("(",)), TagFilter(deny=("[",)), TagFilter(versions=("x.y",))])
def test_a_malformed_expression_is_told(one: TagFilter) -> None:
    with pytest.raises(UsageError):
        one.check("x.toml")
