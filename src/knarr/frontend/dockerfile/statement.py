"""One logical line into an instruction record: the grammar of each keyword.

A line is read in two steps. `split` knows only how the line falls into keyword,
flags and arguments; that is enough to tell whether heredoc bodies follow.
`read` then has everything and makes the record, or says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypedDict

from knarr.errors import DockerfileError, Span
from knarr.frontend.dockerfile import instructions as ins
from knarr.frontend.dockerfile.duration import parse_duration
from knarr.frontend.dockerfile.flags import read_flags
from knarr.frontend.dockerfile.heredoc import heredoc_word, heredocs_of
from knarr.frontend.dockerfile.mounts import read_device, read_mount_text
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.frontend.dockerfile.words import SPACE, json_list, quoted_words, split_blanks, split_first, split_flags
from knarr.record import record, replace

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_.-]*")
_ONBUILD = re.compile(rf"[{SPACE}]*ONBUILD[{SPACE}]*", re.IGNORECASE)
_TAKES_HEREDOC = frozenset(("RUN", "COPY", "ADD"))
_MIN_INTERVAL_NS = 10**6


@record
class Statement:
    """A line split into its parts, not yet understood."""

    line: str
    span: Span
    written: str  # the keyword as the user wrote it
    flags: tuple[str, ...]
    rest: str  # everything behind the flags, stripped
    escape: str
    comments: tuple[str, ...] = ()
    heredocs: tuple[ins.Heredoc, ...] = ()

    @property
    def keyword(self) -> str:
        return self.written.upper()

    def opened_heredocs(self) -> list[ins.Heredoc]:
        """The heredocs whose bodies follow this line, without content."""
        if "<<" not in self.line:
            return []
        inner = split(self.rest, self.span, self.escape) if self.keyword == "ONBUILD" and self.rest else self
        if inner.keyword not in _TAKES_HEREDOC or json_list(inner.rest) is not None:
            return []
        return heredocs_of(self.line)


def split(line: str, span: Span, escape: str, comments: tuple[str, ...] = ()) -> Statement:
    """Split a logical line. Never fails: every text has a first word, if an empty one."""
    written, tail = split_first(line.strip(SPACE))
    if tail is None:
        return Statement(line, span, written, (), "", escape, comments)
    if not tail.startswith("--"):
        return Statement(line, span, written, (), tail.strip(SPACE), escape, comments)
    flags, rest = split_flags(tail, escape)
    return Statement(line, span, written, tuple(flags), rest.strip(SPACE), escape, comments)


def read(statement: Statement) -> ins.Instruction:
    """Make the record of an instruction.

    Raises:
        DockerfileError: the line is not a valid instruction. No span yet.
    """
    reader = _READERS.get(statement.keyword)
    if reader is None:
        raise DockerfileError(
            f"unknown instruction: {statement.written}",
            hint=did_you_mean(statement.written, _READERS, ignore_case=True),
        )
    return reader(statement)


class _Common(TypedDict):
    span: Span
    original: str
    written: str
    comments: tuple[str, ...]


def _common(statement: Statement) -> _Common:
    return {
        "span": statement.span,
        "original": statement.line.strip(SPACE),
        "written": statement.written,
        "comments": statement.comments,
    }


def _doc(comments: tuple[str, ...], name: str) -> str:
    prefix = name + " "
    return next((line[len(prefix) :] for line in comments if name and line.startswith(prefix)), "")


def stage_doc(from_: ins.From) -> str:
    """What a comment above a FROM says of its stage."""
    return _doc(from_.comments, from_.name)


def _from(statement: Statement) -> ins.From:
    words = split_blanks(statement.rest) if statement.rest else []
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise DockerfileError(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols',
                hint="a letter first, then letters, digits, and - _ .",
            )
    elif len(words) == 1:
        name = ""
    else:
        raise DockerfileError("FROM requires either one or three arguments", hint="FROM image, or FROM image AS name")
    flags = read_flags("FROM", statement.flags)
    return ins.From(
        **_common(statement),
        base=words[0],
        name=name,
        name_written=words[2] if name else "",
        as_written=words[1] if name else "",
        platform=flags.text("platform"),
    )


def _arg(statement: Statement) -> ins.Arg:
    read_flags("ARG", statement.flags)
    args = []
    for word in quoted_words(statement.rest, statement.escape):
        key, equals, value = word.partition("=")
        if not key:
            raise DockerfileError("ARG names can not be blank")
        args.append(ins.ArgValue(key, value if equals else None, _doc(statement.comments, key)))
    if not args:
        raise _needs("ARG", "at least one argument")
    return ins.Arg(**_common(statement), args=tuple(args))


def _env(statement: Statement) -> ins.Env:
    return ins.Env(**_common(statement), pairs=_pairs(statement))


def _label(statement: Statement) -> ins.Label:
    return ins.Label(**_common(statement), pairs=_pairs(statement))


def _pairs(statement: Statement) -> tuple[ins.KeyValue, ...]:
    """`key=value …`, or the old `key rest of the line` when the first word has no equals sign."""
    keyword = statement.keyword
    read_flags(keyword, statement.flags)
    words = quoted_words(statement.rest, statement.escape)
    if not words:
        raise _needs(keyword, "at least one argument")
    if "=" not in words[0]:
        key, value = split_first(statement.rest)
        if value is None:
            raise DockerfileError(f"{keyword} must have two arguments", hint=f"{keyword} {key}=value")
        return (ins.KeyValue(key, value, legacy=True),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DockerfileError(
                f"Syntax error - can't find = in {_go_quoted(word)}. Must be of the form: name=value",
                hint="put a value that has spaces in double quotes",
            )
        if not key:
            raise DockerfileError(f"{keyword} names can not be blank")
        pairs.append(ins.KeyValue(key, value))
    return tuple(pairs)


def _run(statement: Statement) -> ins.Run:
    flags = read_flags("RUN", statement.flags)
    network = flags.text("network", "default")
    if network not in ("default", "none", "host"):
        raise DockerfileError(f'invalid network mode "{network}"', hint="default, none or host")
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(f'security "{security}" is not valid', hint="sandbox or insecure")
    return ins.Run(
        **_common(statement),
        command=_command_line(statement.rest),
        heredocs=statement.heredocs,
        mounts=tuple(read_mount_text(text) for text in flags.many("mount")),
        network=network,
        security=security,
        devices=tuple(read_device(text) for text in flags.many("device")),
        flags=flags.names,
    )


def _copy(statement: Statement) -> ins.Copy:
    words = _transfer_words(statement)
    flags = read_flags("COPY", statement.flags)
    sources, dest, heredocs = _sources(statement, words)
    return ins.Copy(
        **_common(statement),
        sources=sources,
        dest=dest,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.truth("link")),
        excludes=flags.many("exclude"),
        flags=flags.names,
        from_=flags.text("from"),
        parents=bool(flags.truth("parents")),
    )


def _add(statement: Statement) -> ins.Add:
    words = _transfer_words(statement)
    flags = read_flags("ADD", statement.flags)
    sources, dest, heredocs = _sources(statement, words)
    return ins.Add(
        **_common(statement),
        sources=sources,
        dest=dest,
        heredocs=heredocs,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.truth("link")),
        excludes=flags.many("exclude"),
        flags=flags.names,
        keep_git_dir=flags.truth("keep-git-dir"),
        checksum=flags.text("checksum"),
        unpack=flags.truth("unpack"),
    )


def _transfer_words(statement: Statement) -> tuple[str, ...]:
    words = _list_or_blanks(statement.rest)
    if len(words) < 2:
        raise DockerfileError(
            f"{statement.keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined",
            hint=f"{statement.keyword} source destination",
        )
    return words


def _sources(statement: Statement, words: tuple[str, ...]) -> tuple[tuple[str, ...], str, tuple[ins.Heredoc, ...]]:
    *sources, dest = words
    if _inline(dest) is not None:
        raise DockerfileError(f"{statement.keyword} cannot accept a heredoc as a destination")
    bodies = {doc.name: doc.content for doc in statement.heredocs}
    paths = []
    inline = []
    for source in sources:
        opened = _inline(source)
        if opened is None:
            paths.append(source)
        else:
            inline.append(replace(opened, content=bodies.get(opened.name, "")))
    return tuple(paths), dest, tuple(inline)


def _inline(word: str) -> ins.Heredoc | None:
    if "<<" not in word:
        return None
    try:
        return heredoc_word(word)
    except DockerfileError:
        return None


def _workdir(statement: Statement) -> ins.Workdir:
    return ins.Workdir(**_common(statement), path=_one_argument(statement))


def _user(statement: Statement) -> ins.User:
    return ins.User(**_common(statement), user=_one_argument(statement))


def _stop_signal(statement: Statement) -> ins.StopSignal:
    return ins.StopSignal(**_common(statement), signal=_one_argument(statement))


def _maintainer(statement: Statement) -> ins.Maintainer:
    return ins.Maintainer(**_common(statement), name=_one_argument(statement))


def _one_argument(statement: Statement) -> str:
    """The whole rest of the line is the argument, spaces included."""
    if not statement.rest:
        raise _needs(statement.keyword, "exactly one argument")
    read_flags(statement.keyword, statement.flags)
    return statement.rest


def _cmd(statement: Statement) -> ins.Cmd:
    read_flags("CMD", statement.flags)
    return ins.Cmd(**_common(statement), command=_command_line(statement.rest))


def _entrypoint(statement: Statement) -> ins.Entrypoint:
    read_flags("ENTRYPOINT", statement.flags)
    return ins.Entrypoint(**_common(statement), command=_command_line(statement.rest))


def _shell(statement: Statement) -> ins.Shell:
    read_flags("SHELL", statement.flags)
    command = _command_line(statement.rest)
    if not command.args:
        raise _needs("SHELL", "at least one argument")
    if command.shell:
        raise DockerfileError(
            f"SHELL requires the arguments to be in JSON form: {statement.line.strip(SPACE)}",
            hint='SHELL ["/bin/bash", "-c"]',
        )
    return ins.Shell(**_common(statement), args=command.args)


def _command_line(rest: str) -> ins.CommandLine:
    args = json_list(rest)
    if args is not None:
        return ins.CommandLine(args, shell=False)
    return ins.CommandLine((rest,) if rest else (), shell=True)


def _expose(statement: Statement) -> ins.Expose:
    if not statement.rest:
        raise _needs("EXPOSE", "at least one argument")
    read_flags("EXPOSE", statement.flags)
    return ins.Expose(**_common(statement), ports=tuple(sorted(split_blanks(statement.rest))))


def _volume(statement: Statement) -> ins.Volume:
    words = _list_or_blanks(statement.rest)
    if not words:
        raise _needs("VOLUME", "at least one argument")
    read_flags("VOLUME", statement.flags)
    paths = tuple(word.strip(SPACE) for word in words)
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return ins.Volume(**_common(statement), paths=paths)


def _list_or_blanks(rest: str) -> tuple[str, ...]:
    words = json_list(rest)
    if words is not None:
        return words
    return tuple(split_blanks(rest)) if rest else ()


def _healthcheck(statement: Statement) -> ins.Healthcheck:
    if not statement.rest:
        raise _needs("HEALTHCHECK", "at least one argument")
    type_, _, rest = _partition_space(statement.rest)
    kind = type_.upper()
    if kind == "NONE":
        if rest:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return ins.Healthcheck(**_common(statement), test=("NONE",))
    flags = read_flags("HEALTHCHECK", statement.flags)
    if kind != "CMD":
        raise DockerfileError(
            f'Unknown type "{kind}" in HEALTHCHECK (try CMD)', hint=f"HEALTHCHECK CMD {statement.rest}"
        )
    command = _command_line(rest)
    if not command.args:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    return ins.Healthcheck(
        **_common(statement),
        test=("CMD-SHELL" if command.shell else "CMD", *command.args),
        interval_ns=_interval("interval", flags.text("interval")),
        timeout_ns=_interval("timeout", flags.text("timeout")),
        start_period_ns=_interval("start-period", flags.text("start-period")),
        start_interval_ns=_interval("start-interval", flags.text("start-interval")),
        retries=_retries(flags.text("retries")),
    )


def _partition_space(text: str) -> tuple[str, str, str]:
    for at, char in enumerate(text):
        if char in SPACE:
            return text[:at], char, text[at:].lstrip(SPACE)
    return text, "", ""


def _interval(name: str, value: str) -> int:
    if not value:
        return 0
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise DockerfileError(f"--{name}: {error}", hint="a number with a unit, like 30s or 1m30s") from error
    if duration and duration < _MIN_INTERVAL_NS:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms')
    return duration


def _retries(value: str) -> int:
    if not value:
        return 0
    digits = value[1:] if value[0] in "+-" else value
    if not digits.isascii() or not digits.isdecimal() or len(digits) > 20 or int(digits) >= 2**31:
        raise DockerfileError(f"--retries: not a number: {value}")
    if value[0] == "-" and int(digits):
        raise DockerfileError(f"--retries cannot be negative ({value})")
    return int(digits)


def _on_build(statement: Statement) -> ins.OnBuild:
    if not statement.rest:
        raise _needs("ONBUILD", "at least one argument")
    read_flags("ONBUILD", statement.flags)
    trigger = split(statement.rest, statement.span, statement.escape).keyword
    if trigger == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{trigger} isn't allowed as an ONBUILD trigger")
    expression = _ONBUILD.sub("", statement.line, count=1)
    for doc in statement.heredocs:
        expression += f"\n{doc.content}{doc.name}"
    return ins.OnBuild(**_common(statement), expression=expression)


def _needs(keyword: str, what: str) -> DockerfileError:
    return DockerfileError(f"{keyword} requires {what}")


def _go_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_READERS: Mapping[str, Callable[[Statement], ins.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
