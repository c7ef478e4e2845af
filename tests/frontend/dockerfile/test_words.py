"""Words, flags and JSON lists out of one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.words import json_list, quoted_words, split_flags


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=b c=d", ["a=b", "c=d"]),
        ('a="x y" b', ['a="x y"', "b"]),
        (r"a=x\ y b", [r"a=x\ y", "b"]),
        (r'a="q\" r" b', [r'a="q\" r"', "b"]),
        (r"a='q\' b", [r"a='q\'", "b"]),
        ("a='open b", ["a='open b"]),
        ('a="open\\', ['a="open']),
        ("a\\", ["a"]),
        ("\\", []),
        ("a\u00a0b", ["a", "b"]),
        ("a\x1cb", ["a\x1cb"]),  # white space to Python, not to Go
        ("", []),
    ],
)
def test_quoted_words(text: str, words: list[str]) -> None:
    assert quoted_words(text, "\\") == words


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("--a --b=c x --d", ["--a", "--b=c"], "x --d"),
        ("x", [], "x"),
        ("-x", [], "-x"),
        ("--a", ["--a"], ""),
        ("-- --a", [], "--a"),
        ('--a="b c" d', ["--a=b c"], "d"),
        ("--a='b \"c' d", ['--a=b "c'], "d"),
        (r"--a=b\ c d", ["--a=b c"], "d"),
        (r"--a='b\'c' d", ["--a=b'c"], "d"),
        ("--a=é x", ["--a=é"], "x"),
    ],
)
def test_flags_are_split_off(text: str, flags: list[str], rest: str) -> None:
    found, remaining = split_flags(text, "\\")
    assert (found, remaining.strip()) == (flags, rest)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ('["a", "b c"]', ("a", "b c")),
        ("[]", ()),
        (r'["\u0041\n"]', ("A\n",)),
        (r'["\ud800"]', ("\ufffd",)),
        ("['a']", None),
        ('["a"] b', None),
        ('["a",]', None),
        ("[NaN]", None),
        ("a", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_json_form_or_else_shell_form(text: str, items: tuple[str, ...] | None) -> None:
    assert json_list(text) == items


@pytest.mark.parametrize("text", ["[1]", '["a", null]', "[[]]", "[" + "9" * 5000 + "]"])
def test_a_list_of_other_things_than_strings_is_refused(text: str) -> None:
    with pytest.raises(DockerfileError, match="comprised of strings"):
        json_list(text)


@given(st.text(alphabet="ab '\"\\=\t", max_size=30))
@settings(deadline=None, max_examples=300)
def test_no_word_has_white_space_outside_quotes_and_none_is_lost(text: str) -> None:
    words = quoted_words(text, "\\")
    assert all(words)
    dropped = len(text) - sum(map(len, words))
    assert dropped <= text.count(" ") + text.count("\t") + 1  # one more: an escape at the end
