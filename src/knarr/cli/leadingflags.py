"""Command lines whose flags end with the first word: what stands behind it is another command's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from knarr.cli.flags import Flag, Kind

_ALONE = (Kind.SWITCH, Kind.REFUSED_SWITCH, Kind.OPTIONAL)


def split(flags: Sequence[Flag], argv: list[str]) -> tuple[list[str], list[str]]:
    """The flags with their values, and the words from the first one on."""
    known = {f"--{flag.name}": flag for flag in flags} | {f"-{flag.short}": flag for flag in flags if flag.short}
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            return argv[:at], argv[at + 1 :]
        if word == "-" or not word.startswith("-"):
            break
        at += 1 + _takes_next(word, known)
    return argv[:at], argv[at:]


def _takes_next(word: str, known: Mapping[str, Flag]) -> bool:
    """Whether the value of the flag `word` is the word after it."""
    if word.startswith("--"):
        flag = known.get(word)
        return flag is not None and flag.kind not in _ALONE
    for number, letter in enumerate(word[1:], 1):
        flag = known.get(f"-{letter}")
        if flag is None or flag.kind not in _ALONE:
            return flag is not None and number == len(word) - 1
    return False
