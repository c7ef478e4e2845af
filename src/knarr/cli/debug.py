"""`knarr debug`: look inside a build. `llb` writes the graph a Dockerfile compiles to, `why` says why a step ran."""

from __future__ import annotations

import os

from knarr.errors import UsageError

_HELP = """Usage: knarr debug llb [--json | --dot | --into DIR] [BUILD OPTIONS] PATH
       knarr debug why [STEP]

llb   Compile the Dockerfile and write the graph as BuildKit's pb.Definition, which
      `buildctl build < FILE` carries out. Nothing is built.
        --json       a line of JSON for each vertex instead
        --dot        a drawing for Graphviz instead: knarr debug llb --dot . | dot -Tsvg
        --into DIR   a file for each platform, such as DIR/linux_arm64.pb
why   Say why steps of the last build were not in the cache: all that ran for a reason
      of their own, or those whose name STEP is a part of, such as "RUN make" or "2/5".
      A step that failed says so, and why it ran."""


def help_text() -> str:
    """What `knarr debug --help` prints."""
    return _HELP


def run(argv: list[str]) -> int:
    """Carry out `knarr debug ARGUMENTS`."""
    word = argv[0] if argv else ""
    if word in ("-h", "--help"):
        print(_HELP)
        return 0
    if word in ("llb", "why") and argv[1:2] in (["-h"], ["--help"]):
        print(_HELP)
        return 0
    if word == "llb":
        from knarr.cli import debugllb

        return debugllb.run(argv[1:])
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
