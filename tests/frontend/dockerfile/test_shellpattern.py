"""Shell patterns, compared with a regular expression that says the same by brute force."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.frontend.dockerfile.shellpattern import compile_pattern

PATTERNS = st.text(alphabet="ab*?\n", max_size=6)
VALUES = st.text(alphabet="ab\n", max_size=8)


def brute(pattern: str, *, longest: bool) -> re.Pattern[str]:
    star = ".*" if longest else ".*?"
    return re.compile("".join({"*": star, "?": "."}.get(char, re.escape(char)) for char in pattern))


@pytest.mark.parametrize(
    ("pattern", "value", "shortest", "longest"),
    [
        ("*/", "a/b/c", "b/c", "c"),
        ("*", "abc", "abc", ""),
        ("a?", "abc", "c", "c"),
        ("", "abc", "abc", "abc"),
        (r"\*", "*a", "a", "a"),
        ("x*", "abc", "abc", "abc"),
        ("*x*y", "xxyy", "y", ""),
        ("*b", "a\nb", "a\nb", "a\nb"),
    ],
)
def test_the_beginning_that_matches_is_cut_off(pattern: str, value: str, shortest: str, longest: str) -> None:
    compiled = compile_pattern(pattern)
    assert compiled.trim_prefix(value, longest=False) == shortest
    assert compiled.trim_prefix(value, longest=True) == longest


@pytest.mark.parametrize("pattern", [r"\a", "a\\"])
def test_an_escape_that_escapes_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="invalid escape"):
        compile_pattern(pattern)


@given(PATTERNS, VALUES, st.booleans())
@settings(deadline=None, max_examples=500)
def test_prefixes_are_those_of_the_regular_expression(pattern: str, value: str, longest: bool) -> None:
    found = brute(pattern, longest=longest).match(value)
    expected = value[found.end() :] if found else value
    assert compile_pattern(pattern).trim_prefix(value, longest=longest) == expected


@given(PATTERNS, VALUES, st.booleans())
@settings(deadline=None, max_examples=500)
def test_a_suffix_is_a_prefix_seen_from_the_other_end(pattern: str, value: str, longest: bool) -> None:
    ends = [at for at in range(len(value) + 1) if brute(pattern, longest=True).fullmatch(value, at)]
    expected = value[: min(ends) if longest else max(ends)] if ends else value
    assert compile_pattern(pattern).trim_suffix(value, longest=longest) == expected


@given(PATTERNS, VALUES)
@settings(deadline=None, max_examples=500)
def test_the_first_match_replaced_is_that_of_the_regular_expression(pattern: str, value: str) -> None:
    expected = brute(pattern, longest=True).sub("<>", value, count=1)
    assert compile_pattern(pattern).replace(value, "<>", every=False) == expected


def test_every_match_is_replaced_but_not_the_nothing_behind_a_match() -> None:
    assert compile_pattern("a").replace("banana", "o", every=True) == "bonono"
    assert compile_pattern("*").replace("abc", "x", every=True) == "x"
    assert compile_pattern("").replace("ab", "-", every=True) == "-a-b-"


def test_many_stars_do_not_take_long() -> None:
    pattern = compile_pattern("*a" * 30 + "b")
    start = time.process_time()
    assert pattern.trim_prefix("a" * 3000, longest=True) == "a" * 3000
    assert pattern.replace("a" * 3000, "", every=True) == "a" * 3000
    assert time.process_time() - start < 10
