"""Bytes into logical lines."""

from __future__ import annotations

import pytest

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.instructions import Heredoc
from knarr.frontend.dockerfile.lexer import Lexer


def lines(data: str | bytes) -> list[tuple[str, int, int]]:
    raw = data if isinstance(data, bytes) else data.encode()
    return [(line.text, line.first, line.last) for line in Lexer(raw, "Dockerfile")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A\nB\n", [("A", 1, 1), ("B", 2, 2)]),
        ("A", [("A", 1, 1)]),
        ("", []),
        ("\ufeffA", [("A", 1, 1)]),
        ("A\r\n\r\nB\r\n", [("A", 1, 1), ("B", 3, 3)]),
        ("  \tA b \n", [("A b ", 1, 1)]),
        ("# c\nA\n", [("A", 2, 2)]),
        # continuation
        ("A \\\nb\n", [("A b", 1, 2)]),
        ("A \\ \t\n  b\nC", [("A   b", 1, 2), ("C", 3, 3)]),
        ("A\\\n# comment\n  # another\nb", [("Ab", 1, 4)]),
        ("A \\\n\n  \nb", [("A b", 1, 4)]),
        ("A \\", [("A ", 1, 1)]),
        ("\\\nA", [("A", 1, 2)]),
        ("A \\\r\nb\r\n", [("A b", 1, 2)]),
        # an escaped escape does not continue, and neither do three
        ("A \\\\\nB", [("A \\\\", 1, 1), ("B", 2, 2)]),
        ("A \\\\\\\nB", [("A \\\\\\", 1, 1), ("B", 2, 2)]),
        # the escape directive
        ("# escape=`\nA `\nb\nC \\\nD", [("A b", 2, 3), ("C \\", 4, 4), ("D", 5, 5)]),
        ("#!/x\n# escape=`\nA \\\nb", [("A b", 3, 4)]),
    ],
)
def test_text_falls_into_lines(text: str, expected: list[tuple[str, int, int]]) -> None:
    assert lines(text) == expected


def test_an_indented_comment_keeps_its_mark_as_in_buildkit() -> None:
    assert [line.comments for line in Lexer(b"  # A says\nARG A\n", "f")] == [("# A says",)]


def test_comments_go_to_the_instruction_below_unless_a_bare_one_separates() -> None:
    text = b"# syntax=x\n# one\n\n# two\nA\n# gone\n#\n# three\nB\nC\n"
    assert [line.comments for line in Lexer(text, "f")] == [("one", "two"), ("three",), ()]


def test_a_blank_line_inside_an_instruction_is_noted() -> None:
    assert [line.empty_continuation for line in Lexer(b"A \\\n\nb\nC \\\nd\n", "f")] == [True, False]


def test_bytes_that_are_not_utf8_may_stand_in_comments_only() -> None:
    assert lines(b"# caf\xe9\nA\n") == [("A", 2, 2)]
    with pytest.raises(DockerfileError, match="not UTF-8") as caught:
        lines(b"# caf\xe9\nA\nB \\\n caf\xe9\n")
    assert caught.value.span is not None
    assert (caught.value.span.first, caught.value.span.last) == (3, 4)
    assert "caf\ufffd" in caught.value.render()


@pytest.mark.parametrize("value", ["x", "\\\\", "`\\"])
def test_an_escape_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(DockerfileError, match="invalid escape token"):
        lines(f"# escape={value}\n")


def take(text: bytes, *docs: Heredoc) -> tuple[list[str], list[str]]:
    """The bodies of `docs` behind the first line, and the lines after them."""
    lexer = Lexer(text, "f")
    following = iter(lexer)
    next(following)
    bodies = [lexer.take_heredoc(doc).content for doc in docs]
    return bodies, [line.text for line in following]


def test_a_heredoc_ends_at_its_name_alone_on_a_line() -> None:
    text = b"RUN <<E\n# no comment\n E\nE \n\\\n\tE\nx\r\nE\r\nB\n"
    assert take(text, Heredoc("E", "")) == (["# no comment\n E\nE \n\\\n\tE\nx\r\n"], ["B"])


def test_a_heredoc_with_a_dash_ends_at_its_name_behind_tabs() -> None:
    assert take(b"RUN <<-E\n\ta\n E\n\t\tE\nB", Heredoc("E", "", chomp=True)) == (["\ta\n E\n"], ["B"])


def test_several_heredocs_follow_one_another() -> None:
    assert take(b"RUN <<A <<B\n1\nB\nA\n2\nA\nB\n", Heredoc("A", ""), Heredoc("B", "")) == (["1\nB\n", "2\nA\n"], [])


def test_a_heredoc_without_end_is_refused() -> None:
    with pytest.raises(DockerfileError, match="unterminated heredoc E") as caught:
        take(b"RUN <<E\nx\nEE\n", Heredoc("E", ""))
    assert "a line that has E" in caught.value.hint
