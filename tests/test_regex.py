"""Patterns that are compiled with their first use."""

from __future__ import annotations

import re

import pytest

from knarr.regex import later


def test_it_does_what_a_compiled_one_does() -> None:
    number = later(r"([0-9]+)x", re.IGNORECASE)
    for _ in range(2):
        found = number.fullmatch("12X")
        assert found is not None
        assert found[1] == "12"
        assert number.match("x") is None
        assert number.sub("-", "1x2X") == "--"
        assert [one[1] for one in number.finditer("1x 22x")] == ["1", "22"]
    assert number.pattern == r"([0-9]+)x"


def test_nothing_is_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    real = re.compile
    monkeypatch.setattr("re.compile", lambda pattern, flags=0: (compiled.append(pattern), real(pattern, flags))[1])
    number = later("[0-9]+")
    assert not compiled
    assert number.search("a1")
    assert number.search("a2")
    assert compiled == ["[0-9]+"]


def test_a_pattern_that_is_none_is_found_out_by_who_uses_it() -> None:
    with pytest.raises(re.error):
        later("(").match("x")
