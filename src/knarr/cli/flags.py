"""Command-line flags as a table, read as docker reads them.

The grammar is that of Go's pflag, which docker, buildx and nerdctl share: flags
and arguments in any order until `--`, `--name=value` or `--name value`, `-ovalue`
or `-o value`, switches with an optional `=true` or `=false`, no abbreviations.
argparse has another one (docs/decisions/0001-flags.md).

    FLAGS = (Flag("tag", Kind.LIST, "NAME", "…", short="t"), Flag("pull", Kind.SWITCH))
    parsed = parse(FLAGS, ["-t", "app", "."], command="knarr build")
    parsed.list("tag"), parsed.words  # (("app",), ("app", "."))
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from knarr.errors import UsageError
from knarr.record import field, record

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Kind(Enum):
    """How often a flag may be given, and whether it takes a value."""

    SWITCH = "switch"
    TEXT = "text"  # the last one counts
    OPTIONAL = "optional"  # the last one counts; a value only behind `=`
    LIST = "list"  # all count, in order
    REFUSED = "refused"  # known elsewhere, not here: `summary` says what to use instead
    REFUSED_SWITCH = "refused switch"


@record
class Flag:
    """One flag. `value` is the word for its value in the help text; `off` are values that ask for nothing."""

    name: str
    kind: Kind
    value: str = ""
    summary: str = ""
    short: str = ""
    off: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        return f"--{self.name}"


@record
class Parsed:
    """What a command line says: values by flag name, and the other words in order."""

    values: dict[str, list[str]] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def switch(self, name: str) -> bool:
        return self.values.get(name, ["false"])[-1] in _TRUE

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]

    def list(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))


def parse(flags: Sequence[Flag], argv: Sequence[str], *, command: str) -> Parsed:
    """Read `argv` (without the command's own name).

    Raises:
        UsageError: an unknown or refused flag, a value that is missing or not allowed.
    """
    names = {f"--{flag.name}": flag for flag in flags}
    shorts = {f"-{flag.short}": flag for flag in flags if flag.short}
    values: dict[str, list[str]] = {}
    words: list[str] = []
    rest = list(reversed(argv))
    while rest:
        word = rest.pop()
        if word == "--":
            words.extend(reversed(rest))
            break
        if word == "-" or not word.startswith("-"):
            words.append(word)
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            if name not in names:
                raise _unknown(name, names, command)
            _take(names[name], value if equals else None, rest, values)
        else:
            _take_short(word, shorts, rest, values, command)
    return Parsed(values, tuple(words))


def _take_short(
    word: str, shorts: dict[str, Flag], rest: list[str], values: dict[str, list[str]], command: str
) -> None:
    """A word like `-t`, `-tapp`, `-t=app`, or switches together as in `-qD`."""
    letters = word[1:]
    while letters:
        flag = shorts.get("-" + letters[0])
        if flag is None:
            raise _unknown("-" + letters[0], shorts, command)
        tail = letters[1:]
        if flag.kind in (Kind.SWITCH, Kind.REFUSED_SWITCH):
            value = tail[1:] if tail.startswith("=") else None
            letters = "" if value is not None else tail
        else:
            value = tail.removeprefix("=") if tail else None
            letters = ""
        _take(flag, value, rest, values)


def _take(flag: Flag, value: str | None, rest: list[str], values: dict[str, list[str]]) -> None:
    """Store one use of `flag`; its value is taken from `rest` where the word itself has none."""
    if flag.kind in (Kind.SWITCH, Kind.REFUSED_SWITCH):
        value = _boolean(flag, "true" if value is None else value)
    elif flag.kind is Kind.OPTIONAL:
        value = "true" if value is None else value
    elif value is None:
        if not rest:
            raise UsageError(f"{flag.shown} needs a value", hint=f"write {flag.shown} {flag.value or 'VALUE'}")
        value = rest.pop()
    if flag.kind in (Kind.REFUSED, Kind.REFUSED_SWITCH):
        if value not in flag.off:
            raise UsageError(f"{flag.shown} is not supported yet", hint=flag.summary)
        return
    if flag.kind is Kind.LIST:
        values.setdefault(flag.name, []).append(value)
    else:
        values[flag.name] = [value]


def _boolean(flag: Flag, value: str) -> str:
    if value in _TRUE:
        return "true"
    if value in _FALSE:
        return "false"
    raise UsageError(f"{flag.shown}={value}: neither true nor false")


def _unknown(name: str, known: dict[str, Flag], command: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"`{command} --help` lists the flags"
    return UsageError(f"unknown flag: {name}", hint=hint)


def usage(flags: Sequence[Flag], *, width: int = 100) -> str:
    """The flags as the lines of a help text; refused ones are left out."""
    shown = [flag for flag in flags if flag.kind not in (Kind.REFUSED, Kind.REFUSED_SWITCH)]
    left = [f"  {f'-{flag.short}, ' if flag.short else '    '}{_with_value(flag)}" for flag in shown]
    column = max(map(len, left)) + 2
    lines = []
    for start, flag in zip(left, shown, strict=True):
        text = _wrapped(flag.summary, width - column)
        lines.append(f"{start:<{column}}{text[0]}")
        lines.extend(" " * column + more for more in text[1:])
    return "\n".join(lines)


def _with_value(flag: Flag) -> str:
    return f"{flag.shown}[={flag.value}]" if flag.kind is Kind.OPTIONAL else f"{flag.shown} {flag.value}".rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def no_words(parsed: Parsed, command: str) -> None:
    """For a command that takes flags only.

    Raises:
        UsageError: there are words.
    """
    if parsed.words:
        raise UsageError(f"{command} takes no arguments: {' '.join(parsed.words)}", hint=f"see `{command} --help`")
