"""`knarr debug`: look inside a build. `llb` writes the graph a Dockerfile compiles to, `why` says why a step ran."""

from __future__ import annotations

import os
import sys

from knarr.errors import UsageError

_HELP = """Usage: knarr debug llb [BUILD OPTIONS] PATH > FILE
       knarr debug why [STEP]

llb   Compile the Dockerfile and write the graph as BuildKit's pb.Definition, which
      `buildctl build < FILE` carries out. One platform at a time.
why   Say why steps of the last build were not in the cache: all that ran for a reason
      of their own, or those whose name STEP is a part of, such as "RUN make" or "2/5"."""


def help_text() -> str:
    """What `knarr debug --help` prints."""
    return _HELP


def run(argv: list[str]) -> int:
    """Carry out `knarr debug ARGUMENTS`."""
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print(_HELP)
        return 0
    if word == "llb":
        return _llb(argv[1:])
    if word == "why":
        return _why(argv[1:])
    raise UsageError(f"knarr debug {word}".strip() + ": not known", hint="use `knarr debug llb` or `knarr debug why`")


def _why(argv: list[str]) -> int:
    if len(argv) > 1:
        raise UsageError("knarr debug why takes one step", hint='knarr debug why "RUN make"')
    from knarr.config import Settings
    from knarr.engine.history import why

    found = why(Settings.from_environment(os.environ).root, *argv)
    for step, reasons in found:
        print(step)
        for line in reasons:
            print(f"  {line}")
    if not found:
        print("every step of the last build was in the cache")
    return 0


def _llb(argv: list[str]) -> int:
    if sys.stdout.isatty():
        raise UsageError("the graph is not text", hint="send it to a file or to buildctl: knarr debug llb . > FILE")
    from knarr.cli.buildjob import compile_only
    from knarr.llb.definition import encode

    results = compile_only(argv)
    if len(results) != 1:
        raise UsageError("several platforms make several graphs", hint="give one: --platform linux/amd64")
    sys.stdout.buffer.write(encode(results[0].graph))
    sys.stdout.buffer.flush()
    return 0
