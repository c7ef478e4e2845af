"""Which words open a heredoc."""

from __future__ import annotations

import pytest

from knarr.frontend.dockerfile.heredoc import heredoc_word, heredocs_of
from knarr.frontend.dockerfile.instructions import Heredoc


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", Heredoc("EOF", "")),
        ("<<-EOF", Heredoc("EOF", "", chomp=True)),
        ("<< EOF", Heredoc("EOF", "")),
        ("3<<EOF", Heredoc("EOF", "", file_descriptor=3)),
        ('<<"EOF"', Heredoc("EOF", "", expand=False)),
        ("<<'EOF'", Heredoc("EOF", "", expand=False)),
        ("<<E'O'F", Heredoc("EOF", "", expand=False)),
        (r"<<\"EOF", Heredoc('"EOF', "")),
        ("<<'a b'", Heredoc("a b", "", expand=False)),
        ("<<$NAME", Heredoc("$NAME", "")),
        ("<<EOF.txt", Heredoc("EOF.txt", "")),
    ],
)
def test_a_word_opens_a_heredoc(word: str, expected: Heredoc) -> None:
    assert heredoc_word(word) == expected


@pytest.mark.parametrize("word", ["<<", "<<<EOF", "<EOF", "a<<EOF", "<<''", "<<a b", "<<a<b", ""])
def test_other_words_do_not(word: str) -> None:
    assert heredoc_word(word) is None


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("RUN cat <<A <<B", ["A", "B"]),
        ("RUN <<A cat | tee <<-'B C'", ["A", "B C"]),
        ("RUN cat <<EOF && : ${x:=y} ${z:0:1}", ["EOF"]),
        ("RUN echo '<<A' \"<<B\" \\<<C", []),
        ("RUN python3 - <<<here", []),
        ("RUN echo $((1<<2))", []),
        ("RUN echo it's <<EOF", []),  # an open quote: the shell's to complain about
        ("RUN echo ${x^^} <<EOF", []),
        ("RUN echo hello", []),
    ],
)
def test_a_line_opens(line: str, names: list[str]) -> None:
    assert [doc.name for doc in heredocs_of(line)] == names


def test_only_tabs_at_the_start_of_lines_are_stripped() -> None:
    content = "\t\ta\n  \tb\n\tc\td\n\r\te"
    assert Heredoc("E", content, chomp=True).text == "a\n  \tb\nc\td\n\r\te"
    assert Heredoc("E", content).text == content
