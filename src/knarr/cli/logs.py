"""`knarr logs`: what a container wrote."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knarr.cli.flags import Flag, Kind, Parsed, parse, usage
from knarr.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from knarr.containers.log import Entry
    from knarr.containers.store import Container

FLAGS = (
    Flag("follow", Kind.SWITCH, "", "go on until the container ends", short="f"),
    Flag("tail", Kind.TEXT, "N", "only the last N lines (default: all)", short="n"),
    Flag("timestamps", Kind.SWITCH, "", "when each line was written, before it", short="t"),
    Flag("since", Kind.TEXT, "TIME", "only what was written since: 10m, 2026-11-24T19:00:00Z, or seconds since 1970"),
    Flag("until", Kind.TEXT, "TIME", "only what was written before"),
    Flag("help", Kind.SWITCH, "", "show this text", short="h"),
)


def help_text() -> str:
    """What `knarr logs --help` prints."""
    return (
        "Usage: knarr logs [OPTIONS] CONTAINER\n\n"
        "Show what a container wrote: to its standard output here on standard output, the rest on standard\n"
        f"error.\n\nOptions:\n{usage(FLAGS)}"
    )


def run(argv: list[str]) -> int:
    """Carry out `knarr logs ARGUMENTS`."""
    from knarr.cli.containerplace import opened

    given = parse(FLAGS, argv, command="knarr logs")
    if given.switch("help"):
        print(help_text())
        return 0
    if len(given.words) != 1:
        raise UsageError("knarr logs needs one container", hint="see `knarr logs --help`")
    entries = _wanted(opened().find(given.words[0]), given)
    _write(entries, with_times=given.switch("timestamps"))
    return 0


def _wanted(container: Container, given: Parsed) -> Iterable[Entry]:
    from itertools import chain

    from knarr.containers.log import LogReader, tail

    since, until = (moment(flag, given.text(flag)) for flag in ("since", "until"))
    count = _count(given.text("tail", "all"))
    if count is None:
        return _between(LogReader(container.log, follow=_follow(container, given)), since, until)
    # What is there now is counted from its end; what comes later begins where that ends.
    there = LogReader(container.log)
    last = tail(_between(there, since, until), count)
    if not given.switch("follow"):
        return last
    rest = LogReader(container.log, follow=_follow(container, given), start=there.at)
    return chain(last, _between(rest, since, until))


def _follow(container: Container, given: Parsed) -> Callable[[], bool] | None:
    return (lambda: container.path.exists() and container.is_running) if given.switch("follow") else None


def _count(text: str) -> int | None:
    if text in ("all", "-1"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"--tail {text}: not a number of lines", hint="a number, or all")
    return int(text)


def _between(entries: Iterable[Entry], since: int | None, until: int | None) -> Iterator[Entry]:
    for entry in entries:
        if until is not None and entry.time_ns >= until:
            return
        if since is None or entry.time_ns >= since:
            yield entry


def _write(entries: Iterable[Entry], *, with_times: bool) -> None:
    from knarr.containers.log import stamp

    begins = {1: True, 2: True}
    for entry in entries:
        data = entry.data
        if with_times:
            mark = f"{stamp(entry.time_ns)} ".encode()
            lines = data.splitlines(keepends=True)
            data = b"".join(
                mark + line if number or begins[entry.stream] else line for number, line in enumerate(lines)
            )
        begins[entry.stream] = entry.data.endswith(b"\n")
        while data:
            data = data[os.write(entry.stream, data) :]


def moment(flag: str, text: str) -> int | None:
    """A time in ns since the epoch: an age such as 10m, an RFC 3339 time, or seconds since 1970.

    Raises:
        UsageError: it is none.
    """
    import time

    from knarr.errors import ContentError
    from knarr.export.clock import nanoseconds

    if not text:
        return None
    try:
        return int(float(text) * 10**9)
    except ValueError:
        pass
    from knarr.cache.prune import duration_ns

    try:
        return time.time_ns() - duration_ns(text)
    except UsageError:
        pass
    whole = text if "T" in text else f"{text}T00:00:00"
    try:
        return nanoseconds(whole if whole[-1:] == "Z" or "+" in whole[10:] or "-" in whole[10:] else f"{whole}Z")
    except ContentError:
        raise UsageError(f"--{flag} {text}: not a time", hint="for example 10m, or 2026-11-24T19:00:00Z") from None
