"""The grammar of each keyword: a statement and its heredocs into an instruction record."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from knarr.errors import DockerfileError
from knarr.frontend.dockerfile import instructions as ins
from knarr.frontend.dockerfile.flags import read_flags
from knarr.frontend.dockerfile.healthcheck import read_healthcheck
from knarr.frontend.dockerfile.keyvalues import read_arg, read_env, read_label, written_pairs
from knarr.frontend.dockerfile.mounts import read_device, read_mount_text
from knarr.frontend.dockerfile.statement import Statement, command_line, common, doc_of, lacking, list_or_blanks, split
from knarr.frontend.dockerfile.suggest import did_you_mean
from knarr.frontend.dockerfile.transfer import read_add, read_copy
from knarr.frontend.dockerfile.words import SPACE, json_list, split_blanks, split_first
from knarr.regex import later

_STAGE_NAME = later(r"[a-z][a-z0-9_.-]*")
_ONBUILD = later(rf"[{SPACE}]*ONBUILD[{SPACE}]*", re.IGNORECASE)


def read(statement: Statement) -> ins.Instruction:
    """Make the record of an instruction.

    Raises:
        DockerfileError: the line is not a valid instruction. No span yet.
    """
    reader = _READERS.get(statement.keyword)
    if reader is None:
        near = did_you_mean(statement.written, _READERS, ignore_case=True)
        above = f"if this line belongs to the one above, that has to end in {statement.escape}"
        raise DockerfileError(f"unknown instruction: {statement.written}", hint=near or above)
    return reader(statement)


def stage_doc(from_: ins.From) -> str:
    """What a comment above a FROM says of its stage."""
    return doc_of(from_.comments, from_.name)


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
        **common(statement),
        base=words[0],
        name=name,
        name_written=words[2] if name else "",
        as_written=words[1] if name else "",
        platform=flags.text("platform"),
    )


def _run(statement: Statement) -> ins.Run:
    flags = read_flags("RUN", statement.flags)
    network = flags.text("network", "default")
    if network not in ("default", "none", "host"):
        raise DockerfileError(f'invalid network mode "{network}"', hint="default, none or host")
    security = flags.text("security", "sandbox")
    if security not in ("sandbox", "insecure"):
        raise DockerfileError(f'security "{security}" is not valid', hint="sandbox or insecure")
    return ins.Run(
        **common(statement),
        command=command_line(statement.rest),
        heredocs=statement.heredocs,
        mounts=tuple(read_mount_text(text) for text in flags.many("mount")),
        network=network,
        security=security,
        devices=tuple(read_device(text) for text in flags.many("device")),
        flags=flags.names,
    )


def _workdir(statement: Statement) -> ins.Workdir:
    return ins.Workdir(**common(statement), path=_one_argument(statement))


def _user(statement: Statement) -> ins.User:
    return ins.User(**common(statement), user=_one_argument(statement))


def _stop_signal(statement: Statement) -> ins.StopSignal:
    return ins.StopSignal(**common(statement), signal=_one_argument(statement))


def _maintainer(statement: Statement) -> ins.Maintainer:
    return ins.Maintainer(**common(statement), name=_one_argument(statement))


def _one_argument(statement: Statement) -> str:
    """The whole rest of the line is the argument, spaces included."""
    if not statement.rest:
        raise lacking(statement.keyword, "exactly one argument")
    read_flags(statement.keyword, statement.flags)
    return statement.rest


def _cmd(statement: Statement) -> ins.Cmd:
    read_flags("CMD", statement.flags)
    return ins.Cmd(**common(statement), command=command_line(statement.rest))


def _entrypoint(statement: Statement) -> ins.Entrypoint:
    read_flags("ENTRYPOINT", statement.flags)
    return ins.Entrypoint(**common(statement), command=command_line(statement.rest))


def _shell(statement: Statement) -> ins.Shell:
    read_flags("SHELL", statement.flags)
    command = command_line(statement.rest)
    if not command.args:
        raise lacking("SHELL", "at least one argument")
    if command.shell:
        raise DockerfileError(
            f"SHELL requires the arguments to be in JSON form: {statement.line.strip(SPACE)}",
            hint='SHELL ["/bin/bash", "-c"]',
        )
    return ins.Shell(**common(statement), args=command.args)


def _expose(statement: Statement) -> ins.Expose:
    if not statement.rest:
        raise lacking("EXPOSE", "at least one argument")
    read_flags("EXPOSE", statement.flags)
    return ins.Expose(**common(statement), ports=tuple(sorted(split_blanks(statement.rest))))


def _volume(statement: Statement) -> ins.Volume:
    words = list_or_blanks(statement.rest)
    if not words:
        raise lacking("VOLUME", "at least one argument")
    read_flags("VOLUME", statement.flags)
    paths = tuple(word.strip(SPACE) for word in words)
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string", hint="VOLUME /path")
    return ins.Volume(**common(statement), paths=paths)


def _on_build(statement: Statement) -> ins.OnBuild:
    if not statement.rest:
        raise lacking("ONBUILD", "at least one argument")
    read_flags("ONBUILD", statement.flags)
    inner = split(statement.rest, statement.span, statement.escape)
    _check_words(inner)
    trigger = inner.keyword
    if trigger == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", hint="write ONBUILD once")
    if trigger in ("MAINTAINER", "FROM"):
        raise DockerfileError(
            f"{trigger} isn't allowed as an ONBUILD trigger",
            hint="a trigger changes the image that is built on this one: any other instruction can",
        )
    expression = _ONBUILD.sub("", statement.line, count=1)
    for doc in statement.heredocs:
        expression += f"\n{doc.content}{doc.name}"
    return ins.OnBuild(**common(statement), expression=expression)


def _check_words(trigger: Statement) -> None:
    """What is looked at when a trigger is written; the rest is when it is carried out, as in BuildKit."""
    if trigger.keyword in ("ENV", "LABEL"):
        written_pairs(trigger)
    elif trigger.keyword in ("ADD", "CMD", "COPY", "ENTRYPOINT", "RUN", "SHELL", "VOLUME"):
        json_list(trigger.rest)
    elif trigger.keyword == "HEALTHCHECK":
        json_list(split_first(trigger.rest)[1] or "")


_READERS: Mapping[str, Callable[[Statement], ins.Instruction]] = {
    "ADD": read_add,
    "ARG": read_arg,
    "CMD": _cmd,
    "COPY": read_copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": read_env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": read_healthcheck,
    "LABEL": read_label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
