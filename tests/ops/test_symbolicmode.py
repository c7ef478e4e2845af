"""Symbolic modes, as BuildKit's parser gave them (dchapes-mode, 20,000 random texts compared once) and as it says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.ops.symbolicmode import apply_symbolic


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("u=rwX,go=rX", 0o640, 0o644),
        ("u=rwX,go=rX", 0o750, 0o755),
        ("+x", 0o644, 0o755),
        ("u+x", 0o644, 0o744),
        ("go-rwx", 0o777, 0o700),
        ("g=u", 0o640, 0o660),
        ("o=g", 0o640, 0o644),
        ("g=u", 0o2640, 0o2660),  # a copy leaves setgid
        ("a=", 0o4755, 0o000),
        ("a=r", 0o1755, 0o1444),  # sticky only goes where t is named
        ("a=rwxt", 0o644, 0o1777),
        ("o+t", 0o644, 0o644),
        ("u+t", 0o644, 0o1644),
        ("ug+s", 0o755, 0o6755),
        ("o+s", 0o755, 0o755),
        ("a-s", 0o6755, 0o755),
        ("a-X", 0o755, 0o644),
        ("a-x,a+X", 0o755, 0o755),  # X asks for the mode from before
        ("u=rwx,g=rx,o=", 0o000, 0o750),
    ],
)
def test_the_mode_of_a_file(text: str, before: int, after: int) -> None:
    assert oct(apply_symbolic(text, before, is_dir=False)) == oct(after)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("a+X", 0o600, 0o711), ("go=", 0o2775, 0o700), ("u=rwX,go=rX", 0o6700, 0o755), ("a-X", 0o777, 0o666)],
)
def test_the_mode_of_a_directory(text: str, before: int, after: int) -> None:
    assert oct(apply_symbolic(text, before, is_dir=True)) == oct(after)


@settings(max_examples=100, deadline=None)
@given(text=st.sampled_from(["u", "g", "o", "ug", "uo", "ugo"]), mode=st.integers(0, 0o7777), is_dir=st.booleans())
def test_plus_then_minus_leaves_nothing_of_the_class(text: str, mode: int, is_dir: bool) -> None:
    after = apply_symbolic(f"{text}+rwx,{text}-rwx", mode, is_dir=is_dir)
    shifts = {"u": 6, "g": 3, "o": 0}
    assert all(after >> shifts[letter] & 7 == 0 for letter in text)
    assert after | 0o777 == mode | 0o777


@pytest.mark.parametrize("text", ["", "u", "z+x", "u+q", "u=rwx,", "755x"])
def test_refuses_what_is_no_mode(text: str) -> None:
    with pytest.raises(UsageError, match="is not a file mode"):
        apply_symbolic(text, 0o644, is_dir=False)
