"""Questions about a Dockerfile instead of a build of it: check, outline and targets.

Each answer has two forms, text and JSON, which are those of BuildKit's frontend;
but the JSON of a check does not say how the client sent the file (`definition`).

    check(FrontendRequest(b"FROM busybox\\nMAINTAINER me\\n"), bridge).text

Spec: BuildKit's frontend.lint, frontend.outline and frontend.targets, version 1.0.0.
"""

from __future__ import annotations

import json
import posixpath
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from knarr.errors import DockerfileError, KnarrError, Span
from knarr.frontend.bridge import Bridge
from knarr.frontend.dockerfile.compile import compile, compile_plans
from knarr.frontend.dockerfile.gotext import html_safe
from knarr.frontend.dockerfile.outline import Lent, outline_of
from knarr.frontend.dockerfile.parser import parse
from knarr.frontend.request import FrontendRequest, Warning
from knarr.record import record, replace

_MIN_LINES = 4  # shown around a place, those of the place not counted
_RULE = "-" * 20


@record
class Answer:
    """What is printed, in both forms. `error` is what ended a check early."""

    text: str
    json: str
    findings: int = 0
    error: KnarrError | None = None


def check(request: FrontendRequest, bridge: Bridge) -> Answer:
    """What is doubtful or wrong in the file: in all its stages, or in what the target needs.

    What is wrong is a part of the answer; nothing is raised.
    """
    warnings: list[Warning] = []
    error = None
    try:
        every_stage = not request.target
        compile(replace(request, platforms=()), bridge, warnings=warnings, every_stage=every_stage)
    except KnarrError as failure:
        error = failure
    text = "\n".join(_shown(request, warning) for warning in _in_order(warnings))
    document: dict[str, Any] = {
        "warnings": [_warning_json(warning) for warning in warnings] or None,
        "sources": [_given(filename=posixpath.basename(request.filename), data=_data(request), language="Dockerfile")],
    }
    if error is not None:
        message = error.told if isinstance(error, DockerfileError) else error.message
        guess = f" ({error.hint})" if error.hint.startswith("did you mean") else ""
        document["buildError"] = {"message": message + guess, **_location(error.span, default={})}
    return Answer(f"\n{text}" if text else "", _json(document), len(warnings), error)


def outline(request: FrontendRequest, bridge: Bridge, *, warnings: list[Warning] | None = None) -> Answer:
    """The arguments, secrets and agents that the target can be given.

    Raises:
        KnarrError: as `compile`.
    """
    plans, _ = compile_plans(replace(request, platforms=()), bridge, warnings=warnings)
    found = outline_of(plans[0])
    text = ""
    if found.name or found.description:
        head = [["TARGET:", found.name or "(default)"]]
        head += [["DESCRIPTION:", found.description]] if found.description else []
        text += _table(head, padding=1) + "\n"
    if found.args:
        rows = [["BUILD ARG", "VALUE", "DESCRIPTION"], *([arg.name, arg.value, arg.description] for arg in found.args)]
        text += _table(rows, padding=3) + "\n"
    text += _lent_table("SECRET", found.secrets) + _lent_table("SSH", found.ssh)
    document = {
        "name": found.name,
        "description": found.description,
        "args": [
            {"name": arg.name, **_given(description=arg.description, value=arg.value), **_location(arg.span)}
            for arg in found.args
        ],
        "secrets": [_lent_json(one) for one in found.secrets],
        "ssh": [_lent_json(one) for one in found.ssh],
        "sources": [_data(request)],
    }
    return Answer(text, _json(_given(**document)))


def targets(request: FrontendRequest) -> Answer:
    """The stages, each with what a comment above it says.

    Raises:
        DockerfileError: the file does not parse.
    """
    stages = parse(request.dockerfile, filename=request.filename).stages
    rows = [["TARGET", "DESCRIPTION"]]
    found = []
    for stage in stages:
        default = stage is stages[-1]
        rows.append([" ".join(filter(None, (stage.name, "(default)" if default else ""))), stage.doc])
        about = _given(
            name=stage.name, default=default, description=stage.doc, base=stage.base, platform=stage.platform
        )
        found.append({**about, **_location(stage.span)})
    return Answer(_table(rows, padding=1), _json({"targets": found or None, "sources": [_data(request)]}))


def describe() -> Answer:
    """The questions that a client may ask; that of a check is not among them, as with BuildKit."""
    asked: list[tuple[str, str, list[dict[str, str]] | None]] = [
        (
            "frontend.outline",
            "List all parameters current build target supports",
            [{"name": "target", "description": "Target build stage"}],
        ),
        ("frontend.targets", "List all targets current build supports", []),
        ("frontend.subrequests.describe", "List available subrequest types", None),
    ]
    results = [{"name": name, "description": ""} for name in ("result.json", "result.txt")]
    found = [
        {"name": name, "version": "1.0.0", "type": "rpc", "description": about}
        | {"opts": options, "inputs": None, "metadata": results, "refs": None}
        for name, about, options in asked
    ]
    rows = [
        ["NAME", "VERSION", "DESCRIPTION"],
        *([name.removeprefix("frontend."), "1.0.0", about] for name, about, _ in asked),
    ]
    return Answer(_table(rows, padding=1), html_safe(json.dumps(found, indent=2)))


def _in_order(warnings: Iterable[Warning]) -> list[Warning]:
    return sorted(warnings, key=lambda warning: (warning.span.first, "") if warning.span else (0, warning.rule))


def _shown(request: FrontendRequest, warning: Warning) -> str:
    page = f" - {warning.url}" if warning.url else ""
    lines = [f"WARNING: {warning.rule}{page}", warning.message]
    if warning.span is not None:
        lines += _quoted_lines(request, warning.span)
    return "\n".join(lines) + "\n"


def _quoted_lines(request: FrontendRequest, span: Span) -> Iterator[str]:
    """The place with lines around it, as clients of BuildKit show it."""
    lines = request.dockerfile.decode("utf-8", "replace").split("\n")
    first, last = span.first, min(span.last, len(lines))
    margin = 0
    least = _MIN_LINES if first == last else _MIN_LINES // 2
    while margin < least:
        if first > 1:
            first -= 1
            margin += 1
        if last < len(lines):
            last += 1
            margin += 1
        margin += 1
    yield f"{span.file}:{span.first}"
    yield _RULE
    for number in range(first, last + 1):
        mark = ">>>" if span.first <= number <= span.last else "   "
        yield f" {number:3} | {mark} {lines[number - 1]}"
    yield _RULE


def _warning_json(warning: Warning) -> dict[str, Any]:
    about = _given(description=warning.description, url=warning.url, detail=warning.message)
    return {"ruleName": warning.rule, **about, **_location(warning.span, default={})}


def _lent_table(kind: str, lent: Sequence[Lent]) -> str:
    if not lent:
        return ""
    rows = [[kind, "REQUIRED"], *([one.name, "true" if one.required else ""] for one in lent)]
    return _table(rows, padding=3) + "\n"


def _lent_json(lent: Lent) -> dict[str, Any]:
    return {"name": lent.name, **_given(required=lent.required), **_location(lent.span)}


def _location(span: Span | None, *, default: dict[str, Any] | None = None) -> dict[str, Any]:
    if span is None:
        return {} if default is None else {"location": default}
    lines = ({"line": number} for number in range(span.first, span.last + 1))
    return {"location": {"ranges": [{"start": line, "end": line} for line in lines]}}


def _given(**members: Any) -> dict[str, Any]:
    """Without those that say nothing."""
    return {name: value for name, value in members.items() if value}


def _data(request: FrontendRequest) -> str:
    return b64encode(request.dockerfile).decode()


def _json(document: dict[str, Any]) -> str:
    return html_safe(json.dumps(document, indent=2, ensure_ascii=False))


def _table(rows: Sequence[Sequence[str]], *, padding: int) -> str:
    """Columns as wide as their widest cell and `padding` more; the last as it is."""
    widths = [max(map(len, column)) + padding for column in zip(*rows, strict=True)]
    lines = (
        "".join(cell.ljust(width) for cell, width in zip(row, widths[:-1], strict=False)) + row[-1] for row in rows
    )
    return "".join(f"{line}\n" for line in lines)
