"""Path patterns: Go's Match, ignore lists, the ignore file."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.patterns import Matcher, clean, has_wildcard, match, parse_ignore

# --- match -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("main.py", "main.py", True),
        ("main.py", "mainxpy", False),
        ("*", "main.py", True),
        ("*", "a/b", False),
        ("*.py", ".py", True),
        ("m*n.*", "main.py", True),
        ("m*n.*", "main/x.py", False),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/b/c", False),
        ("**", "a/b", False),  # two stars are one here
        ("?", "é", True),
        ("?", "/", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[^a-c]x", "dx", True),
        ("[^a]", "/", True),  # as in Go
        ("[abc-]", "-", None),
        ("[!a]", "!", True),
        ("[*?]", "*", True),
        (r"[\]]", "]", True),
        (r"[\a-\c]", "b", True),
        ("[c-a]", "b", False),
        ("[^c-a]", "b", True),
        ("a]", "a]", True),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"\d", "d", True),
        (r"\d", "1", False),
        ("a.b+(c)|$^{d}", "a.b+(c)|$^{d}", True),
        ("", "", True),
        ("", "a", False),
        ("a\n", "a", False),
        ("*", "a\nb", True),
    ],
)
def test_match(pattern: str, name: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(UsageError):
            match(pattern, name)
    else:
        assert match(pattern, name) is expected


@pytest.mark.parametrize("pattern", ["[", "[a", "[]", "[]a]", "[-a]", "[a-]", "[^]", "a\\", "[\\", "x[a-"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="syntax error in pattern"):
        match(pattern, "x")
    with pytest.raises(UsageError, match="syntax error in pattern"):
        Matcher([pattern])


@given(st.text(alphabet="ab/*?", max_size=7), st.text(alphabet="ab/", max_size=7))
@settings(deadline=None, max_examples=500)
def test_match_agrees_with_a_plain_regular_expression(pattern: str, name: str) -> None:
    plain = "".join({"*": "[^/]*", "?": "[^/]"}.get(char, char) for char in pattern)
    assert match(pattern, name) is (re.fullmatch(plain, name) is not None)


def test_a_name_is_its_own_pattern_unless_it_has_wildcards() -> None:
    assert not has_wildcard("a/b.c")
    assert all(has_wildcard(pattern) for pattern in ("a*", "a?", "[a]", "a\\b"))


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("", "."), ("a/", "a"), ("./a//b/.", "a/b"), ("a/../b", "b"), ("../a", "../a"), ("//a", "/a"), ("/..", "/")],
)
def test_clean(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


# --- Matcher -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("docs", ["docs", "docs/a", "docs/a/b"], ["a/docs", "docsx", "doc"]),
        ("docs/", ["docs", "docs/a"], ["docsx"]),
        ("./docs/../docs", ["docs/a"], []),
        ("  docs  ", ["docs"], [" docs"]),
        ("/docs", [], ["docs"]),  # rooted patterns match nothing; parse_ignore takes the slash away
        ("a/b", ["a/b", "a/b/c"], ["a", "b", "x/a/b"]),
        ("*", ["a", "a/b"], []),
        ("*.md", ["a.md", ".md", "a.md/x"], ["a/b.md", "a.mdx"]),
        ("*/*.md", ["a/b.md"], ["b.md", "a/b/c.md"]),
        ("a?c", ["abc"], ["a/c", "ac"]),
        ("a[b-d]e", ["ace"], ["aae", "ae"]),
        (r"a\*c", ["a*c"], ["abc"]),
        ("**", ["a", "a/b"], []),
        ("**/a", ["a", "x/a", "x/y/a", "a/b"], ["xa", "x/ab"]),
        ("**/a/b", ["a/b", "x/a/b", "x/a/b/c"], ["a", "xa/b"]),
        ("**a", ["a", "xa", "x/ya", "x/ya/z"], ["ab"]),
        ("**/*.o", ["a.o", "x/a.o", ".o", "x/.o"], ["a.oo"]),
        ("**/a*", ["ab", "x/ab", "x/a"], ["ba", "x/ba"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a*/**", ["ab/c"], ["ab"]),
        ("a**", ["a", "ab", "a/b"], ["b"]),
        ("a**b", ["ab", "a/b", "ax/b", "a/x/b"], ["axb"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b", "a/b/c"], ["a/xb", "b"]),
        ("**/a/**", ["a/b", "x/a/b"], ["a", "x/a"]),
        ("**/**/a", ["a", "x/a"], ["xa"]),
        ("a.b+(c)|$^{d}", ["a.b+(c)|$^{d}"], ["aab+(c)|$^{d}"]),
    ],
)
def test_one_pattern(pattern: str, yes: list[str], no: list[str]) -> None:
    matcher = Matcher([pattern])
    assert [path for path in yes if not matcher.matches(path)] == []
    assert [path for path in no if matcher.matches(path)] == []


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (["docs", "!docs/keep"], ["docs", "docs/a"], ["docs/keep", "docs/keep/x"]),
        (["!docs/keep", "docs"], ["docs/keep"], []),
        (["docs", "!docs/keep", "docs/keep/not"], ["docs/keep/not"], ["docs/keep/x"]),
        (["*.md", "!README*.md", "README-secret.md"], ["a.md", "README-secret.md"], ["README.md"]),
        (["**", "!src", "!lib/**"], ["a", "lib"], ["src", "src/a", "lib/a"]),
        (["a", "!a", "a"], ["a"], []),
        (["!a"], [], ["a"]),
        (["a", "!a/b", "a*"], ["a/c"], ["a/b"]),  # the last one was never asked about `a`
        (["*.log", "!keep"], ["a.log"], ["keep"]),
        (["", "  ", "a"], ["a"], ["b"]),
        ([], [], ["a"]),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns: list[str], yes: list[str], no: list[str]) -> None:
    matcher = Matcher(patterns)
    assert [path for path in yes if not matcher.matches(path)] == []
    assert [path for path in no if matcher.matches(path)] == []


def test_why_names_the_pattern_by_its_place() -> None:
    matcher = Matcher(["", "docs", "!docs/keep", "**/*.o"])
    assert matcher.why("docs/a") == 1
    assert matcher.why("docs/a.o") == 1  # the third has nothing to add
    assert matcher.why("docs/keep/a.o") == 3
    assert matcher.why("docs/keep/a") is None
    assert matcher.why("src") is None


def test_an_exclamation_mark_alone_is_refused() -> None:
    with pytest.raises(UsageError, match="illegal exclusion pattern"):
        Matcher(["!"])


def test_an_empty_matcher_is_false() -> None:
    assert not Matcher([" "])
    assert Matcher(["a"])


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        (["docs"], "docs", False),
        (["docs", "!docs/keep"], "docs", True),
        (["docs", "!docs/a/b"], "docs/a", True),
        (["docs", "!docs/a/b"], "docs/b", False),
        (["docs", "!docs/*/b"], "docs/x", True),
        (["docs", "!**/b"], "docs", True),
        (["docs", "!docs"], "docs", False),  # not excluded, and nothing in it is
        (["docs", "!src"], "docs", False),
        # the other way round, for include lists
        (["src/a"], "src", True),
        (["src/a"], "lib", False),
        (["src/a"], "src/a", False),
        (["*/a"], "src", True),
        (["**/a"], "src/b", True),
        (["src/a[/]b"], "src/a", True),
        (["src"], "", True),
    ],
)
def test_a_directory_may_hold_what_is_judged_otherwise(patterns: list[str], directory: str, expected: bool) -> None:
    assert Matcher(patterns).may_contain_match(directory) is expected


NAMES = st.sampled_from(["a", "b", "ab", "a.b", ".a"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PARTS = st.sampled_from(["a", "b", "*", "a*", "*b", "**", "**b", "a**", "?", "[ab]", "[^a]", "a.b", r"\a"])
PATTERNS = st.tuples(st.sampled_from(["", "", "!"]), st.lists(PARTS, min_size=1, max_size=4).map("/".join)).map("".join)


def walked(patterns: list[str], path: str) -> bool:
    """The definition: going down, each pattern that would change the answer is asked, and once it matched it holds."""
    parts = path.split("/")
    held: set[int] = set()
    matched = False
    for count in range(1, len(parts) + 1):
        matched = False
        for place, pattern in enumerate(patterns):
            negated = pattern.startswith("!")
            if place not in held and negated is matched and itself(pattern).fullmatch("/".join(parts[:count])):
                held.add(place)
            if place in held:
                matched = not negated
    return matched


def itself(pattern: str) -> re.Pattern[str]:
    """What the pattern matches apart from what lies below that."""
    pattern = pattern.removeprefix("!")
    if pattern.startswith("**") and re.fullmatch(r"[a-z.][a-z./]*", pattern[2:]):
        return re.compile(".*" + re.escape(pattern[2:]))  # moby takes such a pattern for a plain ending
    out = []
    for token in re.findall(r"\*\*/?|\[.*?\]|\\.|.", pattern):
        if token.startswith("**"):
            out.append("(?:.*/)?")
        else:
            out.append({"*": "[^/]*", "?": "[^/]", ".": r"\.", r"\a": "a"}.get(token, token))
    if pattern.endswith("**"):
        out[-1] = ".*"
    return re.compile("".join(out))


@given(st.lists(PATTERNS, max_size=5), st.lists(PATHS, min_size=1, max_size=6))
@settings(deadline=None, max_examples=300)
def test_many_patterns_are_as_each_alone_going_down(patterns: list[str], paths: list[str]) -> None:
    matcher = Matcher(patterns)
    for path in paths:
        assert matcher.matches(path) is walked(patterns, path)
        why = matcher.why(path)
        assert (why is not None) is matcher.matches(path)
        assert why is None or Matcher([patterns[why]]).matches(path)


@given(st.lists(PATTERNS, max_size=5), PATHS, PATHS)
@settings(deadline=None, max_examples=500)
def test_what_lies_under_a_closed_directory_is_judged_like_it(patterns: list[str], directory: str, inner: str) -> None:
    matcher = Matcher(patterns)
    if not matcher.may_contain_match(directory):
        assert matcher.matches(f"{directory}/{inner}") is matcher.matches(directory)


@given(st.text(alphabet="ab/*?[]^-\\!. ", max_size=12), PATHS)
@settings(deadline=None, max_examples=500)
def test_any_text_is_a_pattern_or_refused(pattern: str, path: str) -> None:
    try:
        matcher = Matcher([pattern])
    except UsageError:
        return
    assert matcher.matches(path) in (True, False)
    assert matcher.may_contain_match(path) in (True, False)


def test_a_hundred_thousand_paths_take_a_moment() -> None:
    patterns = ["*.md", "!README.md", "**/test_*", "build/*/out", ".git", "**/__pycache__", "**/*.o", "src/**/gen/*.go"]
    paths = [f"src/d{at // 1000}/e{at // 20}/file{at}.py" for at in range(100_000)]
    matcher = Matcher(patterns * 4)
    start = time.process_time()
    assert not any(map(matcher.matches, paths))
    assert time.process_time() - start < 10, "no longer one expression for all"


def test_many_stars_do_not_take_long() -> None:
    matcher = Matcher(["*a" * 30 + "b", "**/a/" * 12 + "**/b/**"])
    start = time.process_time()
    assert not matcher.matches("a" * 255)
    assert not matcher.matches("a/" * 400 + "a")
    assert not match("*a" * 30 + "b", "a" * 255)
    assert time.process_time() - start < 10


# --- parse_ignore ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        (b"", ()),
        (b"\xef\xbb\xbfa\nb", ("a", "b")),
        (b"# comment\n #not\na#b\n", ("#not", "a#b")),
        (b"  a \t\r\n\n  \n\tb c\n", ("a", "b c")),
        (b"/a\n/a/b/\n//c\n", ("a", "a/b", "c")),
        (b"/\n.\n./\n", ("/", ".", ".")),
        (b"!a\n! /b\n!./c/../d\n", ("!a", "!b", "!d")),
        (b"!\n", ("!",)),
        (b"a/../../b\n**/x/\n", ("../b", "**/x")),
        (b"caf\xe9\n", ("caf\udce9",)),
    ],
)
def test_an_ignore_file_reads_as(text: bytes, patterns: tuple[str, ...]) -> None:
    assert parse_ignore(text) == patterns


@given(st.lists(PATTERNS, max_size=5))
@settings(deadline=None, max_examples=200)
def test_reading_what_was_read_changes_nothing(patterns: list[str]) -> None:
    once = parse_ignore("\n".join(patterns).encode())
    assert parse_ignore("\n".join(once).encode()) == once
