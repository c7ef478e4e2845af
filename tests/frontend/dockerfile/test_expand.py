"""Variables, quotes and escapes, as tables of word → result."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.expand import HEREDOC_BODY, MAX_DEPTH, Expander, process_word, process_words

ENV = {"USER": "ada", "EMPTY": "", "URL": "http://host/a/b.tar.gz", "TWO": "one  two", "STAR": "*", "ö": "umlaut"}


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("plain", "plain"),
        ("$USER", "ada"),
        ("${USER}", "ada"),
        ("x$USER.y", "xada.y"),
        ("$USERx", ""),
        ("$MISSING", ""),
        ("a${MISSING}b", "ab"),
        ("$ö", "umlaut"),
        ("$", "$"),
        ("$.", "$."),
        ("a$ b", "a$ b"),
        # numbers and special parameters are names too, and have no value
        ("$1a", "a"),
        ("$12a", "a"),
        ("$$USER", "USER"),
        ("$@@", "@"),
        # quotes
        ("'$USER'", "$USER"),
        ('"$USER"', "ada"),
        ("a'b c'd", "ab cd"),
        ('"it\'s"', "it's"),
        ("'say \"hi\"'", 'say "hi"'),
        ('""', ""),
        # escapes
        (r"\$USER", "$USER"),
        (r"\\$USER", r"\ada"),
        (r"a\tb", "atb"),
        (r'"a\tb"', r"a\tb"),
        (r'"\$USER \" \\"', '$USER " \\'),
        (r"'a\'", "a\\"),
        ("trailing\\", "trailing"),
        (r"\${USER}", "${USER}"),
    ],
)
def test_a_word_becomes(word: str, result: str) -> None:
    assert process_word(word, ENV) == result


@pytest.mark.parametrize(
    ("word", "result"),
    [
        ("${USER-x} ${EMPTY-x} ${MISSING-x}", "ada  x"),
        ("${USER:-x} ${EMPTY:-x} ${MISSING:-x}", "ada x x"),
        ("${USER+x} ${EMPTY+x} ${MISSING+x}", "x x "),
        ("${USER:+x} ${EMPTY:+x} ${MISSING:+x}", "x  "),
        ("${USER?no} ${USER:?no} ${EMPTY?no}", "ada ada "),
        ("${MISSING:-${ALSO:-$USER}}", "ada"),
        ("${MISSING:-a b}", "a b"),
        ('${MISSING:-"}"}', "}"),
        (r"${MISSING:-\}}", "}"),
        ("${MISSING:-a{b}", "a{b"),
        ("${URL#http://}", "host/a/b.tar.gz"),
        ("${URL#*/}", "/host/a/b.tar.gz"),
        ("${URL##*/}", "b.tar.gz"),
        ("${URL%.*}", "http://host/a/b.tar"),
        ("${URL%%.*}", "http://host/a/b"),
        ("${URL%?gz}", "http://host/a/b.tar"),
        ("${URL#nothing}", "http://host/a/b.tar.gz"),
        ("${URL/http/https}", "https://host/a/b.tar.gz"),
        ("${URL/a/A}", "http://host/A/b.tar.gz"),
        ("${URL//a/A}", "http://host/A/b.tAr.gz"),
        (r"${URL//\//:}", "http:::host:a:b.tar.gz"),
        ("${URL//a/}", "http://host//b.tr.gz"),
        ("${URL/h*t/X}", "Xar.gz"),
        ("${USER//$STAR/x}", "x"),
        (r"${USER//\*/x}", "ada"),
        ("${MISSING#x}", ""),
    ],
)
def test_an_operator_gives(word: str, result: str) -> None:
    assert process_word(word, ENV) == result


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("'open", "matching single-quote"),
        ('"open', "matching double-quote"),
        ('"open\\"', "matching double-quote"),
        ("${USER", "missing '}'"),
        ("${", "missing '}'"),
        ("${USER:-x", "missing '}'"),
        ("${USER/x", "missing '/'"),
        ("${USER/x/y", "missing '}'"),
        ("${}", "bad substitution"),
        ("${{USER}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${USER:=x}", "unsupported modifier (:=)"),
        ("${USER=x}", "unsupported modifier (=)"),
        ("${USER:#x}", "unsupported modifier (:#)"),
        ("${USER^}", "unsupported modifier (^)"),
        ("${MISSING?}", "MISSING: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${MISSING:?say $USER}", "MISSING: say ada"),
        (r"${USER#\a}", r"invalid escape '\a'"),
    ],
)
def test_a_bad_word_is_refused_with_its_reason(word: str, part: str) -> None:
    with pytest.raises(DockerfileError, match="failed to process") as caught:
        process_word(word, ENV)
    assert part in caught.value.message


def test_names_that_were_asked_for_are_told_apart_by_whether_they_had_a_value() -> None:
    result = Expander().word("$USER ${EMPTY:-x} ${MISSING:-$ALSO} '$QUOTED'", ENV)
    assert result.text == "ada x  $QUOTED"
    assert result.used == {"USER", "EMPTY"}
    assert result.unset == {"MISSING", "ALSO"}


def test_the_escape_directive_changes_what_escapes() -> None:
    assert process_word(r"C:\dir\$USER`$x", ENV, escape="`") == r"C:\dir\ada$x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b\tc", ["a", "b", "c"]),
        ("  a  ", ["a"]),
        ("", []),
        ("'' a", ["a"]),
        ("$TWO", ["one", "two"]),
        ('"$TWO"', ["one  two"]),
        ("x$TWO'y z'", ["xone", "twoy z"]),
        (r"a\ b c", ["a b", "c"]),
        ("${MISSING:-a b}c d", ["a", "bc", "d"]),
        ("cat << EOF", ["cat", "<< EOF"]),
        ("a < b", ["a", "<", "b"]),
    ],
)
def test_text_falls_into_words(text: str, words: list[str]) -> None:
    assert process_words(text, ENV) == words


def test_a_heredoc_body_keeps_its_quotes() -> None:
    body = "v=$USER \"q\" '$USER' \\$USER\n"
    assert HEREDOC_BODY.word(body, ENV).text == "v=ada \"q\" 'ada' $USER\n"


def test_references_to_unset_names_can_be_kept() -> None:
    keep = Expander(raw_quotes=True, raw_escapes=True, keep_unset=True)
    text = "'a' \"b\" $NO ${NO} ${NO:-x} ${NO:=x} ${NO#x} ${NO/a/b} \\c"
    assert keep.word(text, ENV).text == text


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    fine = "${MISSING:-" * MAX_DEPTH + "x" + "}" * MAX_DEPTH
    assert process_word(fine, ENV) == "x"
    with pytest.raises(DockerfileError, match="deep"):
        process_word("${MISSING:-" + fine + "}", ENV)


def test_growth_without_end_is_refused() -> None:
    env = {"A": "x" * 2**20}
    with pytest.raises(DockerfileError, match="longer than"):
        process_word("$A" * 17, env)
    with pytest.raises(DockerfileError, match="longer than"):
        process_word("${A//x/yyyyyyyyyyyyyyyyy}", env)


@given(st.text(alphabet="$ {}:-+?#%/\\'\"<abAB*\n", max_size=40), st.sampled_from("\\`"))
@settings(deadline=None, max_examples=300)
def test_any_text_expands_or_is_refused(text: str, escape: str) -> None:
    try:
        result = Expander(escape).word(text, {"A": "x*y", "B": ""})
    except DockerfileError:
        return
    assert not result.used & result.unset


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_single_quotes_protect_everything_but_themselves(text: str) -> None:
    text = text.replace("'", "")
    assert process_word(f"'{text}'", ENV) == text


@given(st.text(max_size=40))
@settings(deadline=None, max_examples=200)
def test_an_escape_in_front_of_every_character_protects_all(text: str) -> None:
    assert process_word("".join("\\" + char for char in text), ENV) == text
