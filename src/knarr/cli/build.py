"""`knarr build`: the door. What is behind it is in `buildoptions` (what was asked) and `buildjob` (doing it).

This module imports nothing at its top that a warm build does not need: a build
whose inputs are all unchanged is recognised first (engine/fingerprint).
"""

from __future__ import annotations

import os


def run(argv: list[str]) -> int:
    """Carry out `knarr build ARGUMENTS`.

    Raises:
        KnarrError: the build failed; nothing half-done remains.
    """
    if not _may_be_elsewhere(argv):
        from knarr.cli.buildrecall import recall

        known = recall(argv)
        if known is not None:
            return known
    from knarr.cli.buildoptions import parse_options

    options = parse_options(argv, os.environ, os.getcwd())
    if options.help:
        from knarr.cli.buildflags import help_text

        print(help_text())
        return 0
    if options.call is not None:
        from knarr.cli.buildcall import call

        return call(options, options.call)
    from knarr.cli.buildjob import build

    return build(options, argv)


def _may_be_elsewhere(argv: list[str]) -> bool:
    """Whether another process may be meant to build: what was built here says nothing of that one's result."""
    environ = os.environ
    if environ.get("KNARR_BUILDER") or environ.get("BUILDKIT_HOST"):
        return True
    if any(word.startswith("--builder") for word in argv):
        return True
    home = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", ""), ".config")
    return os.path.exists(f"{home}/knarr/builders/current")
