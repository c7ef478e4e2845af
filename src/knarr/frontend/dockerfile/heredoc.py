"""Heredoc words: which `<<NAME` stand in a line, and whether their bodies are expanded.

>>> heredoc_word('<<-"EOF"')
Heredoc(name='EOF', content='', expand=False, chomp=True, file_descriptor=0)
"""

from __future__ import annotations

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile.expand import Expander
from knarr.frontend.dockerfile.instructions import Heredoc
from knarr.regex import later

_HEREDOC = later(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_MAX_DESCRIPTOR = 2**64 - 1

_LINE = Expander(raw_quotes=True, raw_escapes=True, keep_unset=True)
_NAME = Expander(keep_unset=True)
_QUOTED_NAME = Expander(raw_quotes=True, keep_unset=True)


def heredocs_of(line: str) -> list[Heredoc]:
    """The heredocs that a logical line opens, in order, without content.

    A line that is not well-formed shell (say, with an open quote) has none: it is
    left for the shell to complain about.
    """
    if "<<" not in line:
        return []
    try:
        words = _LINE.words(line, {})
    except DockerfileError:
        return []
    return [found for word in words if (found := heredoc_word(word)) is not None]


def heredoc_word(word: str) -> Heredoc | None:
    """`word` as a heredoc without content, or None when it is something else.

    Raises:
        DockerfileError: the name cannot be unquoted.
    """
    match = _HEREDOC.fullmatch(word)
    if match is None or not match[3]:
        return None
    names = _NAME.words(match[3], {})
    if len(names) != 1:
        return None
    name = names[0]
    # A quote that is there with quotes kept but gone without them was a real
    # one: any quoted part of the name turns expansion of the body off.
    expand = _quotes(name) == _quotes(" ".join(_QUOTED_NAME.words(match[3], {})))
    descriptor = int(match[1][:20] or "0")
    return Heredoc(name, "", expand, match[2] == "-", min(descriptor, _MAX_DESCRIPTOR))


def _quotes(word: str) -> int:
    return word.count("'") + word.count('"')
