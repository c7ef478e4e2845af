"""`knarr build --check` and `--call`: a question about the Dockerfile, answered on standard output. Nothing is built.

The answers are those of `docker buildx build`, and so is the exit status: 1 when a
check has found something.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from knarr.errors import ContentError, DockerfileError, UsageError
from knarr.record import record

if TYPE_CHECKING:
    from knarr.cli.buildoptions import BuildOptions
    from knarr.frontend.bridge import Bridge
    from knarr.frontend.dockerfile.subrequests import Answer
    from knarr.frontend.request import FrontendRequest
    from knarr.progress import Sink

_NAMES = ("check", "outline", "targets")
_ASKED_AS = {"check": "lint"}
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
    from knarr.cli import buildjob
    from knarr.frontend.dockerfile.syntax import wanted

    question = f"frontend.{_ASKED_AS.get(asked.name, asked.name)}"
    with buildjob.shown(options) as sink, buildjob.asked(options) as (request, session):
        other = None if options.builder else wanted(request)
        if options.builder:
            answer = _by_image(asked, buildjob.ask_elsewhere(options, question, request, session, sink))
        elif other is not None:
            answer = _by_image(asked, buildjob.ask_image(options, other, question, request, session, sink))
        else:
            with buildjob.bridge_of(request, session, sink, options.source_policies) as bridge:
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


def _by_image(asked: Call, said: Mapping[str, bytes]) -> Answer:
    """The answer of a frontend that is not ours, an image's or a builder's, of which only a check is looked into.

    Raises:
        ContentError: it is no answer.
    """
    from knarr.frontend.dockerfile.subrequests import Answer

    document = said.get("result.json", b"").decode(errors="replace")
    text = said.get("result.txt", b"").decode(errors="replace") or document
    if not text:
        raise ContentError(f"the frontend said nothing to {asked.name}", hint="does its image answer this question?")
    if asked.name != "check":
        return Answer(text, document or text)
    try:
        found = json.loads(document)
        count = len(found.get("warnings") or ())
        wrong = (found.get("buildError") or {}).get("message")
    except (ValueError, TypeError, AttributeError) as error:
        raise ContentError(f"the frontend's check makes no sense: {error}") from error
    return Answer(text, document, count, DockerfileError(str(wrong)) if wrong else None)


def _text(asked: Call, answer: Answer) -> str:
    if asked.name != "check":
        return answer.text
    if not answer.findings:
        return "" if answer.error else "Check complete, no warnings found.\n"
    count = "1 warning has" if answer.findings == 1 else f"{answer.findings} warnings have"
    return f"Check complete, {count} been found!\n{answer.text}" + ("\n" if answer.error else "")
