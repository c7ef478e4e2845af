"""`knarr debug llb`: the graph that a Dockerfile compiles to, for buildctl, for other programs, or as a drawing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knarr.errors import UsageError

if TYPE_CHECKING:
    from knarr.frontend.request import PlatformResult

_FORMS = ("--json", "--dot")


def run(argv: list[str]) -> int:
    """Carry out `knarr debug llb ARGUMENTS`: the words of its own come first, the rest is `knarr build`'s."""
    from knarr.cli.buildjob import compile_only

    form, directory, rest = _own(argv)
    if not form and directory is None and sys.stdout.isatty():
        raise UsageError(
            "the graph is not text",
            hint="send it to a file or to buildctl (knarr debug llb . > FILE), or ask for --json or --dot",
        )
    results = compile_only(rest)
    if form == "--json":
        sys.stdout.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(results))
    elif form == "--dot":
        print(_drawing(results))
    elif directory is not None:
        _into(directory, results)
    else:
        _definition(results)
    return 0


def _own(argv: Sequence[str]) -> tuple[str, Path | None, list[str]]:
    """The form that is asked for, the directory to write to, and the words that are the build's."""
    form, directory, rest = "", None, list(argv)
    while rest:
        word, _, value = rest[0].partition("=")
        if word in _FORMS and not value:
            form = word
        elif word == "--into":
            value = value or (rest.pop(1) if len(rest) > 1 else "")
            if not value:
                raise UsageError("--into wants a directory", hint="knarr debug llb --into graphs .")
            directory = Path(value)
        else:
            break
        rest.pop(0)
    if form and directory is not None:
        raise UsageError(f"{form} goes to standard output", hint="leave out --into, or the form")
    return form, directory, rest


def _definition(results: Sequence[PlatformResult]) -> None:
    from knarr.llb.definition import encode

    if len(results) != 1:
        raise UsageError(
            "several platforms make several graphs",
            hint="give one (--platform linux/amd64), or write a file for each: --into DIR",
        )
    sys.stdout.buffer.write(encode(results[0].graph))
    sys.stdout.buffer.flush()


def _into(directory: Path, results: Sequence[PlatformResult]) -> None:
    from knarr.llb.definition import encode

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for result in results:
            path = directory / f"{str(result.platform).replace('/', '_')}.pb"
            path.write_bytes(encode(result.graph))
            print(path)
    except OSError as error:
        raise UsageError(f"--into {directory}: {error.strerror or error}") from error


def _lines(results: Sequence[PlatformResult]) -> list[dict[str, Any]]:
    """One object per vertex, inputs first: its digest, its op in protobuf's JSON form, what is said beside it."""
    from knarr.engine.telling import step_name
    from knarr.llb.shown import as_json

    lines = []
    for result in results:
        for vertex in result.graph.vertices.values():
            lines.append(
                {
                    "platform": str(result.platform),
                    "digest": str(vertex.digest),
                    "name": step_name(vertex),
                    "op": as_json(vertex.raw),
                    "description": dict(vertex.metadata.description),
                    "lines": [[span.first, span.last] for span in vertex.spans],
                    "result": result.graph.root is not None and vertex.digest == result.graph.root.digest,
                }
            )
    return lines


def _drawing(results: Sequence[PlatformResult]) -> str:
    """Graphviz's language: a box per vertex, an arrow per input, vertices that platforms share drawn once."""
    from knarr.engine.telling import step_name

    boxes: dict[str, str] = {}
    arrows: dict[str, None] = {}
    for result in results:
        for vertex in result.graph.vertices.values():
            boxes[str(vertex.digest)] = f"{step_name(vertex)}\n{vertex.platform or ''}".rstrip()
            for edge in vertex.inputs:
                arrows[f"  {_quoted(str(edge.digest))} -> {_quoted(str(vertex.digest))};"] = None
    drawn = [f"  {_quoted(digest)} [label={_quoted(name)}, shape=box];" for digest, name in boxes.items()]
    return "\n".join(("digraph llb {", "  rankdir=BT;", *drawn, *arrows, "}"))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
