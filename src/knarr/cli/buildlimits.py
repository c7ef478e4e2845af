"""What steps may take of the machine: `--resource` of buildx, and the flags of `docker build` for each limit.

As in buildx the flags come first and `--resource` after them; the last of each counts. Beyond
buildx, several limits may stand in one `--resource`, and there are `pids` and `cpus`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from knarr.cli.buildvalues import size_bytes
from knarr.cli.flags import Parsed
from knarr.errors import UsageError
from knarr.llb.ops import LinuxResources
from knarr.runtime import limits

_FIELDS = {
    "memory": "memory_bytes",
    "memory-swap": "memory_swap_bytes",
    "cpu-shares": "cpu_shares",
    "cpu-period": "cpu_period_us",
    "cpu-quota": "cpu_quota_us",
    "cpuset-cpus": "cpuset_cpus",
    "cpuset-mems": "cpuset_mems",
    "pids": "pids",
}
_KEYS = (*_FIELDS, "cpus")
_NEXT = re.compile(r",(?=[a-z-]+=)")  # a list of processors has commas, too


def read_limits(given: Parsed) -> LinuxResources:
    """The limits that a command line asks for.

    Raises:
        UsageError: a limit that is not one, or that no kernel takes.
    """
    found: dict[str, int | str] = {}
    for flag, name, text in _said(given):
        if name == "cpus":
            found["cpu_period_us"], found["cpu_quota_us"] = limits.quota_of_cpus(text)
        elif name in ("cpuset-cpus", "cpuset-mems"):
            found[_FIELDS[name]] = text
        elif name in ("memory", "memory-swap"):
            is_all = name == "memory-swap" and text == "-1"
            found[_FIELDS[name]] = -1 if is_all else size_bytes(flag, text)
        else:
            found[_FIELDS[name]] = _number(flag, text)
    asked = LinuxResources(**found)  # type: ignore[arg-type] # by the table above each has its own type
    limits.check(asked)
    return asked


def _said(given: Parsed) -> Iterator[tuple[str, str, str]]:
    """Each limit as (where it was said, its name, its value)."""
    for name in _FIELDS:
        for text in given.list(name):
            if text:
                yield f"--{name}", name, text
    for text in given.list("resource"):
        for part in _NEXT.split(text):
            name, equals, value = (word.strip() for word in part.partition("="))
            if name == "cpu":
                name = "cpus"
            if not equals or name not in _KEYS:
                raise UsageError(
                    f"--resource {text}: {part!r} is not a limit",
                    hint=f"write KEY=VALUE, KEY one of: {', '.join(_KEYS)}",
                )
            yield f"--resource {name}", name, value


def _number(flag: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UsageError(f"{flag} {text}: not a whole number above 0")
    return int(text)
