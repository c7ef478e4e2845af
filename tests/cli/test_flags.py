"""The grammar of flags: docker's."""

from __future__ import annotations

import pytest

from knarr.cli.flags import Flag, Kind, parse, usage
from knarr.errors import UsageError

FLAGS = (
    Flag("tag", Kind.LIST, "NAME", "a name", short="t"),
    Flag("file", Kind.TEXT, "FILE", "a file", short="f"),
    Flag("quiet", Kind.SWITCH, "", "say little", short="q"),
    Flag("pull", Kind.SWITCH, "", "fetch anew"),
    Flag("ssh", Kind.REFUSED, summary="lend a secret"),
    Flag("call", Kind.REFUSED, summary="look at the end", off=("build",)),
    Flag("squash", Kind.REFUSED_SWITCH, summary="copy it", off=("false",)),
)


@pytest.mark.parametrize(
    ("argv", "tags", "words"),
    [
        (["-t", "a", "."], ("a",), (".",)),
        (["-ta", "."], ("a",), (".",)),
        (["-t=a", "."], ("a",), (".",)),
        ([".", "--tag", "a"], ("a",), (".",)),
        (["--tag=a", "--tag=b=c", "."], ("a", "b=c"), (".",)),
        (["-qta", "-"], ("a",), ("-",)),
        (["--", "-t", "a"], (), ("-t", "a")),
        (["-t", "-q", "."], ("-q",), (".",)),
        (["--tag="], ("",), ()),
    ],
)
def test_flags_and_words_in_any_order(argv: list[str], tags: tuple[str, ...], words: tuple[str, ...]) -> None:
    parsed = parse(FLAGS, argv, command="knarr x")
    assert (parsed.list("tag"), parsed.words) == (tags, words)


@pytest.mark.parametrize(
    ("argv", "on"),
    [
        ([], False),
        (["--pull"], True),
        (["--pull=true"], True),
        (["--pull=0"], False),
        (["--pull", "--pull=false"], False),
    ],
)
def test_a_switch_takes_true_and_false(argv: list[str], on: bool) -> None:
    assert parse(FLAGS, argv, command="knarr x").switch("pull") is on


def test_a_switch_does_not_eat_the_next_word() -> None:
    assert parse(FLAGS, ["--pull", "false"], command="knarr x").words == ("false",)


def test_of_a_text_the_last_counts() -> None:
    assert parse(FLAGS, ["-f", "a", "--file=b"], command="knarr x").text("file") == "b"


@pytest.mark.parametrize("argv", [["--call", "build"], ["--call=build"], ["--squash=false"]])
def test_a_refused_flag_that_asks_for_nothing_passes(argv: list[str]) -> None:
    assert parse(FLAGS, argv, command="knarr x").words == ()


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        (["--ssh", "default"], "--ssh is not supported yet", "lend a secret"),
        (["--squash"], "--squash is not supported yet", "copy it"),
        (["--tga", "a"], "unknown flag: --tga", "did you mean --tag?"),
        (["-x"], "unknown flag: -x", "`knarr x --help` lists the flags"),
        (["--pull=maybe"], "--pull=maybe: neither true nor false", ""),
        (["--file"], "--file needs a value", "write --file FILE"),
        (["--fil", "x"], "unknown flag: --fil", "did you mean --file?"),
    ],
)
def test_what_cannot_be_meant_is_told(argv: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, argv, command="knarr x")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_usage_lists_flags_in_columns_without_refused_ones() -> None:
    assert usage(FLAGS, width=40).splitlines() == [
        "  -t, --tag NAME   a name",
        "  -f, --file FILE  a file",
        "  -q, --quiet      say little",
        "      --pull       fetch anew",
    ]
