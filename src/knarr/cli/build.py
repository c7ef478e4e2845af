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
