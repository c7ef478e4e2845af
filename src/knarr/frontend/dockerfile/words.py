"""How a line of a Dockerfile falls into words: white space, quoted words, flags, JSON lists.

White space is Unicode's `White_Space`, as Go's `unicode.IsSpace` has it:
Python's `str.isspace` counts four control characters more.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from knarr.errors import DockerfileError

SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

_BLANKS = re.compile("[\t\v\f\r ]+")  # what separates plain words; narrower than SPACE
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def split_blanks(text: str) -> list[str]:
    """The words of `text`, which is stripped and not empty."""
    return _BLANKS.split(text)


def split_first(text: str) -> tuple[str, str | None]:
    """The first word and what follows the blanks after it; None when nothing does."""
    parts = _BLANKS.split(text, 1)
    return parts[0], parts[1] if len(parts) > 1 else None


def quoted_words(text: str, escape: str) -> list[str]:
    """Words of ENV, LABEL and ARG: split at white space outside quotes; quotes and escapes are kept.

    An escape at the very end of the text is dropped.
    """
    words: list[str] = _word_pattern(escape).findall(text)
    return words


@lru_cache(maxsize=2)
def _word_pattern(escape: str) -> re.Pattern[str]:
    esc = re.escape(escape)
    return re.compile(
        rf"(?:[^{SPACE}'\"{esc}]++"  # plain
        rf"|{esc}."  # an escape and whatever it escapes
        rf"|'[^']*+'?"  # nothing is special between single quotes
        rf'|"(?:[^"{esc}]++|{esc}.)*+"?'
        r")++",
        re.DOTALL,
    )


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """The `--flag` words at the head of `text`, quotes and escapes resolved, and the rest.

    A lone `--` ends the flags and is dropped.
    """
    flags: list[str] = []
    rest = text.lstrip(SPACE)
    while rest.startswith("--"):
        word, rest = _take_flag(rest, escape)
        if word == "--":
            break
        flags.append(word)
        rest = rest.lstrip(SPACE)
    return flags, rest


def _take_flag(text: str, escape: str) -> tuple[str, str]:
    """Both kinds of quotes group, and an escape works inside both."""
    out: list[str] = []
    quote = ""
    chars = enumerate(text)
    for at, char in chars:
        if char == escape:
            out.append(next(chars, (0, ""))[1])
        elif quote:
            if char == quote:
                quote = ""
            else:
                out.append(char)
        elif char in "'\"":
            quote = char
        elif char in SPACE:
            return "".join(out), text[at:]
        else:
            out.append(char)
    return "".join(out), ""


def json_list(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON list, or None when `text` is not one: then it is shell form.

    Raises:
        DockerfileError: a JSON list with something else than strings in it.
    """
    if not text.startswith("["):
        return None
    try:
        items = _decoder().decode(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in items):
        raise DockerfileError(
            "when using JSON array syntax, arrays must be comprised of strings only",
            hint='write every element in double quotes, like ["sleep", "5"]',
        )
    return tuple(_LONE_SURROGATE.sub("\ufffd", item) for item in items)


@lru_cache(maxsize=1)
def _decoder() -> json.JSONDecoder:
    return json.JSONDecoder(parse_int=float, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
