"""`knarr build --check` and `--call`: a question about the Dockerfile, answered on standard output. Nothing is built.

The answers are those of `docker buildx build`, and so is the exit status: 1 when a
check has found something.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from knarr.errors import UsageError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.cli.buildoptions import BuildOptions
    from knarr.frontend.bridge import Bridge
    from knarr.frontend.dockerfile.subrequests import Answer
    from knarr.frontend.request import FrontendRequest
    from knarr.progress import Sink

_NAMES = ("check", "outline", "targets")
_FORMATS = ("", "text", "json")
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


@record
class Call:
    """What is asked: check, outline or targets."""

    name: str
    as_json: bool = False
    ignore_status: bool = False  # a check that finds something ends well all the same


def read_call(fields: Sequence[str]) -> Call | None:
    """The value of `--call`, split at its commas; None for `build`, which is no question.

    Raises:
        UsageError: nothing that can be asked.
    """
    names = [field for field in fields if "=" not in field]
    given = dict(field.split("=", 1) for field in fields if "=" in field)
    shown = f"--call {','.join(fields)}"
    name = "check" if names == ["lint"] else "".join(names)
    if len(names) > 1 or name not in ("", "build", *_NAMES):
        raise UsageError(
            f"{shown}: not known", hint=f"use one of: build, {', '.join(_NAMES)}; with ,format=json behind"
        )
    unknown = [key for key in given if key not in ("format", "ignorestatus")]
    if unknown or given.get("format", "") not in _FORMATS or given.get("ignorestatus", "1") not in (*_TRUE, *_FALSE):
        raise UsageError(f"{shown}: not understood", hint="behind the name may stand format=json and ignorestatus=true")
    if name in ("", "build"):
        return None
    return Call(name, given.get("format") == "json", given.get("ignorestatus") in _TRUE)


def call(options: BuildOptions, asked: Call) -> int:
    """Print the answer to what `options` ask and return the exit status.

    Raises:
        KnarrError: there is no answer, or the file that was checked cannot be built; the findings are then printed.
    """
    from knarr.cli.buildjob import frontend, shown

    with shown(options) as sink, frontend(options, sink) as (request, bridge):
        answer = _answer(asked, request, bridge, sink)
    sys.stdout.write(f"{answer.json}\n" if asked.as_json else _text(asked, answer))
    sys.stdout.flush()
    if answer.error is not None:
        raise answer.error
    return 1 if answer.findings and not asked.ignore_status else 0


def _answer(asked: Call, request: FrontendRequest, bridge: Bridge, sink: Sink) -> Answer:
    from knarr.engine.definition import told
    from knarr.frontend.dockerfile import subrequests

    with told(request, sink) as warnings:
        if asked.name == "check":
            return subrequests.check(request, bridge)
        if asked.name == "outline":
            return subrequests.outline(request, bridge, warnings=warnings)
        return subrequests.targets(request)


def _text(asked: Call, answer: Answer) -> str:
    if asked.name != "check":
        return answer.text
    if not answer.findings:
        return "" if answer.error else "Check complete, no warnings found.\n"
    count = "1 warning has" if answer.findings == 1 else f"{answer.findings} warnings have"
    return f"Check complete, {count} been found!\n{answer.text}" + ("\n" if answer.error else "")
